"""Folders as other programs leave them, with the built-in pair as their models."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET

TARGET, ASSISTANT = TINY_TARGET.read_bytes(), TINY_ASSISTANT.read_bytes()
_WEIGHTS = "application/vnd.ollama.image.model"


class Home:
    """A home folder, with a method for the way in which each program keeps a model."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.hub, self.lm_studio = root / "hf" / "hub", root / "lmstudio" / "models"
        self.llama_cpp, self.ollama = root / "llama.cpp", root / "ollama"
        for variable, folder in (
            ("HF_HOME", self.hub.parent),
            ("LMSTUDIO_HOME", self.lm_studio.parent),
            ("LLAMA_CACHE", self.llama_cpp),
            ("OLLAMA_MODELS", self.ollama),
            ("LOCALSPEC_DATA", root / "data"),
        ):
            monkeypatch.setenv(variable, str(folder))

    def write(self, path: Path, content: bytes = TARGET) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def in_hub(self, repo: str, name: str, content: bytes = TARGET, commit: str = "1" * 40, main: bool = True) -> Path:
        """A blob, a link to it in a snapshot, and the branch."""
        folder = self.hub / f"models--{repo.replace('/', '--')}"
        blob = self.write(folder / "blobs" / hashlib.sha256(content + name.encode()).hexdigest(), content)
        path = folder / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
        if main:
            self.write(folder / "refs" / "main", commit.encode())
        return path

    def in_lm_studio(self, name: str, content: bytes = TARGET) -> Path:
        return self.write(self.lm_studio / name, content)

    def in_llama_cpp(self, repo: str, name: str, content: bytes = TARGET, tag: str = "latest") -> Path:
        """A flat name, and the manifest of the tag for the first part of a split."""
        if "-of-" not in name or "-00001-of-" in name:
            manifest = json.dumps({"ggufFile": {"rfilename": name, "size": len(content)}})
            self.write(self.llama_cpp / f"manifest={repo.replace('/', '=')}={tag}.json", manifest.encode())
        return self.write(self.llama_cpp / f"{repo}/{name}".replace("/", "_"), content)

    def in_ollama(self, name: str, content: bytes = TARGET, folder: str = "manifests") -> Path:
        """``name``: host/namespace/model/tag."""
        layer = self.layer(content)
        manifest = {"schemaVersion": 2, "layers": [layer, {"mediaType": "application/vnd.ollama.image.license"}]}
        self.manifest(name, manifest, folder)
        return self.write(self.ollama / "blobs" / str(layer["digest"]).replace(":", "-"), content)

    def layer(self, content: bytes = TARGET) -> Mapping[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": _WEIGHTS, "digest": digest, "size": len(content)}

    def manifest(self, name: str, content: object, folder: str = "manifests") -> Path:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.write(self.ollama / folder / name, text)

    def everything(self) -> dict[str, tuple[int, int]]:
        """Every path with its size and time of change."""
        paths = sorted(self.root.rglob("*"))
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}
