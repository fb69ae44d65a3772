"""A projector of llama.cpp (mtmd): pixels and sounds → embeddings of the target's cells.

It refuses everything on which mtmd would abort the process or start a program. Decoders of pictures are not used (see
:mod:`localspec.media.pictures`), and of files only sounds reach mtmd, which their first bytes tell: it hands unknown
ones to ffmpeg.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.errors import BackendError, InputError, ModelFileError
from localspec.llama.binding import clear_errors, first_error, free_with, lib, mtmd, set_fields
from localspec.llama.host import default_threads
from localspec.llama.model import LlamaModel
from localspec.protocols import Rows

#: Shortest sound, in seconds: a few frames of an encoder.
_SHORTEST = 0.1
#: Encoders take sounds in parts of so many seconds.
_PART = 30
_TEXT = 0


class LlamaPiece:
    """A part of what a projector makes of a picture or sound: ``tokens`` of text, or ``cells`` to encode.

    All cells that are not ``causal`` must be decoded in one pass.
    """

    def __init__(self, projector: LlamaProjector, owner: object, chunk: Any) -> None:
        """``owner`` frees the chunk when it is collected."""
        api, count = projector.api, ctypes.c_size_t(0)
        self._projector, self._owner, self._chunk = projector, owner, chunk
        self.tokens: tuple[int, ...] = ()
        self.cells, self.causal = 0, True
        if api.mtmd_input_chunk_get_type(chunk) == _TEXT:
            found = api.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            self.tokens = tuple(found[: count.value]) if count.value else ()
            return
        self.cells = int(api.mtmd_input_chunk_get_n_tokens(chunk))
        self.causal = not api.mtmd_decode_use_non_causal(projector.handle, chunk)
        if self.cells < 1 or api.mtmd_input_chunk_get_n_pos(chunk) != self.cells:
            raise BackendError(f"{projector.path.name} gave {self.cells} cells of an unknown layout.")

    def encode(self) -> Rows:
        """Return the embeddings of the cells, shape (cells, n_embd)."""
        return self._projector.encode(self._chunk, self.cells)


class _Chunks:
    """Owner of mtmd's chunks."""

    def __init__(self, api: Any) -> None:
        self.handle = api.mtmd_input_chunks_init()
        self._free = free_with(self, api.mtmd_input_chunks_free, self.handle)


class LlamaProjector:
    """A projector's file, loaded for ``model``, which must outlive it. Any thread may call it."""

    def __init__(
        self,
        path: Path,
        model: LlamaModel,
        *,
        threads: int | None = None,
        image_tokens: tuple[int, int] | None = None,
        places: int | None = None,
    ) -> None:
        """``image_tokens``: fewest and most cells of a picture; None: the file's.

        ``places``: most cells beside or below one another; None: any number.
        """
        self.path, self._model, self.api, self._places = path, model, mtmd(), places
        self._lock = RLock()
        least, most = image_tokens or (-1, -1)
        placement = model.placement
        options = set_fields(
            self.api.mtmd_context_params_default(),
            use_gpu=placement.gpu,
            print_timings=False,
            n_threads=threads or default_threads(),
            warmup=False,
            image_min_tokens=least,
            image_max_tokens=most,
        )
        if placement.gpu and placement.handles is not None:
            set_fields(options, device=placement.handles[0])
        clear_errors()
        self._handle = self.api.mtmd_init_from_file(os.fsencode(path), model.handle, options)
        if not self._handle:
            raise ModelFileError(f"llama.cpp cannot load {path}: {first_error()}. Check the file, or give another one.")
        self._free = free_with(self, self.api.mtmd_free, self._handle)
        if self.api.mtmd_decode_use_mrope(self._handle):
            self.close()
            raise ModelFileError(
                f"{model.path.name} gives pictures positions of several dimensions (M-RoPE), which localspec does not "
                "support; use it for text, or take a model of Gemma's family."
            )
        self._width = int(lib.llama_model_n_embd_inp(model.handle))

    @property
    def handle(self) -> Any:
        if self._handle is None:
            raise BackendError("the projector was closed; load the model again.")
        return self._handle

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of media that it reads: ``picture``, ``sound``."""
        sees, hears = self.api.mtmd_support_vision(self.handle), self.api.mtmd_support_audio(self.handle)
        return frozenset([*(["picture"] if sees else []), *(["sound"] if hears else [])])

    def picture(self, pixels: NDArray[np.uint8]) -> list[LlamaPiece]:
        """Divide a picture, shape (height, width, 3), into pieces."""
        self._check("picture")
        height, width, _ = pixels.shape
        data = np.ascontiguousarray(pixels, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        with self._lock:
            pieces = self._pieces(self.api.mtmd_bitmap_init(width, height, data), "picture")
        ratio = max(width, height) / min(width, height)
        for cells in (piece.cells for piece in pieces):
            longest = min(cells, math.isqrt(int(cells * ratio)) + 1)
            if self._places is not None and longest > self._places:  # mtmd would abort
                raise InputError(
                    f"a picture of {width} × {height} pixels is too narrow for {self.path.name}; cut it into several."
                )
        return pieces

    def sound(self, data: bytes) -> list[LlamaPiece]:
        """Divide a sound, a checked file, into pieces. Raises :class:`InputError` if it is damaged or too short."""
        self._check("sound")
        with self._lock:
            samples = self._samples(data)
            rate = int(self.api.mtmd_get_audio_sample_rate(self.handle))
            if len(samples) < _SHORTEST * rate:
                raise InputError(
                    f"a sound of {len(samples) / rate:.2f} seconds is too short; {_SHORTEST} are the least."
                )
            rest = len(samples) % (_PART * rate)
            if 0 < rest < _SHORTEST * rate:  # a part of its own, too short for an encoder
                samples = samples[: len(samples) - rest]
            pointer = np.ascontiguousarray(samples).ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            return self._pieces(self.api.mtmd_bitmap_init_from_audio(len(samples), pointer), "sound")

    def _check(self, kind: str) -> None:
        if kind not in self.kinds:
            raise InputError(f"{self.path.name} reads no {kind}s; leave the {kind} out, or use a model that does.")

    def _samples(self, data: bytes) -> NDArray[np.float32]:
        """Decode a sound to one channel at the projector's rate."""
        clear_errors()
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = self.api.mtmd_helper_bitmap_init_from_buf(self.handle, buffer, len(data), False)
        if not bitmap:
            raise InputError("the sound cannot be decoded: the file is damaged; save it again.")
        try:
            size = int(self.api.mtmd_bitmap_get_n_bytes(bitmap))
            if not self.api.mtmd_bitmap_is_audio(bitmap) or size < 4:
                raise InputError("the file holds no sound; save it again.")
            found = np.frombuffer(ctypes.string_at(self.api.mtmd_bitmap_get_data(bitmap), size), np.float32)
        finally:
            self.api.mtmd_bitmap_free(bitmap)
        return np.clip(np.nan_to_num(found), -1.0, 1.0)

    def _pieces(self, bitmap: Any, kind: str) -> list[LlamaPiece]:
        """Let mtmd divide a bitmap, which is freed. It adds the texts that begin and end media of this model."""
        if not bitmap:
            raise BackendError(f"llama.cpp has no memory for this {kind}; make it smaller.")
        try:
            chunks = _Chunks(self.api)
            part = self.api.mtmd_input_part(None, bitmap)
            parts = (ctypes.POINTER(self.api.mtmd_input_part) * 1)(ctypes.pointer(part))
            clear_errors()
            if self.api.mtmd_tokenize_from_parts(self.handle, chunks.handle, parts, 1, False) != 0:
                raise InputError(f"llama.cpp cannot use this {kind}: {first_error()}. Give another one.")
        finally:
            self.api.mtmd_bitmap_free(bitmap)
        count = self.api.mtmd_input_chunks_size(chunks.handle)
        return [LlamaPiece(self, chunks, self.api.mtmd_input_chunks_get(chunks.handle, i)) for i in range(count)]

    def encode(self, chunk: Any, cells: int) -> Rows:
        """Return the embeddings (cells, n_embd) of a chunk. Raises :class:`BackendError`."""
        with self._lock:
            clear_errors()
            if self.api.mtmd_encode_chunk(self.handle, chunk) != 0:
                raise BackendError(f"{self.path.name} failed to encode {cells} cells: {first_error()}.")
            address = ctypes.cast(self.api.mtmd_get_output_embd(self.handle), ctypes.c_void_p).value
            if not address:
                raise BackendError(f"{self.path.name} gave no embeddings.")
            found = (ctypes.c_float * (cells * self._width)).from_address(address)
            rows = np.array(np.ctypeslib.as_array(found), np.float32).reshape(cells, self._width)
        if not np.isfinite(rows).all():
            raise ModelFileError(f"{self.path.name} computes NaN or infinity. Its file is damaged; get it again.")
        return rows

    def close(self) -> None:
        """Free the projector. May be called twice."""
        with self._lock:
            self._handle = None
            self._free()


def check_projector(projector: LlamaProjector) -> None:
    """Encode a small grey picture and half a second of silence, for a test of the file."""
    pieces: list[Sequence[LlamaPiece]] = []
    if "picture" in projector.kinds:
        pieces.append(projector.picture(np.full((64, 64, 3), 127, np.uint8)))
    if "sound" in projector.kinds:
        silence = b"\0" * 16_000
        head = b"\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0"  # PCM, one channel, 16 kHz, 16 bits
        body = b"WAVEfmt \x10\0\0\0" + head + b"data" + len(silence).to_bytes(4, "little") + silence
        pieces.append(projector.sound(b"RIFF" + len(body).to_bytes(4, "little") + body))
    for piece in (piece for found in pieces for piece in found if piece.cells):
        piece.encode()
