"""The reader of pictures and sounds of a loaded target."""

from __future__ import annotations

from localspec.files import file_identity
from localspec.llama.context import LlamaContext
from localspec.llama.mtmd import LlamaProjector
from localspec.media.reader import MediaReader
from localspec.models.projector import picture_cells, places_in_a_row, projector_kinds
from localspec.probe.contexts import LoadedModels
from localspec.probe.load_test import try_files


def make_reader(models: LoadedModels, target: LlamaContext, image_tokens: tuple[int, int] | None) -> MediaReader | None:
    """The reader, which loads the projector when it is needed; None without one."""
    found = models.projector
    if found is None:
        return None
    path, model, threads, limits = found.path, models.target, models.params.threads, picture_cells(found, image_tokens)

    def load() -> LlamaProjector:
        try_files(model.path, path, "mmproj")
        places = places_in_a_row(found)
        return LlamaProjector(path, model, threads=threads, image_tokens=limits, places=places)

    identity = f"{file_identity(path)} {limits}"
    return MediaReader(load, identity, projector_kinds(found), target.media_cells)
