"""Models of Ollama: small manifests by name, and the blobs that they name by hash.

The layout is ``manifest/manifest.go`` and ``manifest/paths.go`` of Ollama: ``manifests/HOST/NAMESPACE/MODEL/TAG``, or
``manifests-v2`` since 2026, where the file is a link to a blob. A manifest may list several, one for each runner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from localspec.models.found.model import FoundFile, FoundModel, file_size, files_below
from localspec.models.found.places import read_json

_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
#: Host and namespace that a name leaves out.
_REGISTRY, _LIBRARY = "registry.ollama.ai", "library"
_HUB = ("hf.co", "huggingface.co")
#: Runners whose files llama.cpp may read.
_RUNNERS = ("", "ollama", "llamacpp")


def ollama(root: Path) -> list[FoundModel]:
    """Models in Ollama's folder, by the names of ``ollama list``; those of the Hub by their names there."""
    found: dict[str, FoundModel] = {}
    for folder in ("manifests-v2", "manifests"):
        for path in files_below(root / folder, 3):
            parts = path.relative_to(root / folder).parts
            blob = _model_blob(root / "blobs", read_json(path)) if len(parts) == 4 else None
            if blob is not None:
                host, namespace, name, tag = parts
                model = _named(host, namespace, name, tag, *blob)
                found.setdefault(model.name, model)
    return list(found.values())


def _named(host: str, namespace: str, model: str, tag: str, blob: Path, size: int) -> FoundModel:
    if host in _HUB:
        repo, quant = f"{namespace}/{model}", None if tag.lower() == "latest" else tag
        file = FoundFile(repo, f"{model}-{tag}.gguf", blob, size)
        return FoundModel("ollama", f"{repo}:{quant}" if quant else repo, repo, quant, (file,))
    left_out = 0 if host != _REGISTRY else 1 if namespace != _LIBRARY else 2
    name = "/".join((host, namespace, model)[left_out:])
    return FoundModel("ollama", f"{name}:{tag}", name, None, (FoundFile("", f"{name}:{tag}", blob, size),))


def _model_blob(blobs: Path, manifest: object) -> tuple[Path, int] | None:
    """The file of the weights, and its size; None unless there is exactly one, whole."""
    for one in _runnable(blobs, manifest):
        layers = one.get("layers")
        weights = [layer for layer in _dicts(layers) if layer.get("mediaType") == _MODEL]
        path = _blob(blobs, weights[0].get("digest")) if len(weights) == 1 else None
        size = file_size(path) if path else None
        if path and size and size == weights[0].get("size"):
            return path, size
    return None


def _runnable(blobs: Path, manifest: object) -> Iterator[dict[str, object]]:
    """The manifest, or those of its list that llama.cpp may run."""
    for whole in _dicts([manifest]):
        listed = whole.get("manifests")
        if listed is None:
            yield whole
        for one in _dicts(listed):
            path = _blob(blobs, one.get("digest"))
            if one.get("runner", "") in _RUNNERS:
                yield from _dicts([one if "layers" in one else read_json(path) if path else None])


def _dicts(values: object) -> list[dict[str, object]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _blob(blobs: Path, digest: object) -> Path | None:
    """The path of a blob; None for a digest that is none, which might lead out of the folder."""
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return blobs / f"sha256-{found[1]}" if found else None
