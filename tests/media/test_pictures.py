"""Laws of pictures: the right pixels, or a clear error before anything large is made."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from localspec.errors import InputError
from localspec.media.pictures import MOST_PIXELS, decode_picture
from localspec.media.source import MOST_BYTES, Image, media_of
from tests.helpers.media_files import pixels, png, saved, wav

SHOWN = pixels(3)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_pixels_of_a_png_are_its_own() -> None:
    """Shape (height, width, 3)."""
    assert (decode_picture(Image(saved(SHOWN))) == SHOWN).all()


def test_sixteen_bits_keep_the_high_byte() -> None:
    """Grey with 16 bits is not clipped to white."""
    grey = SHOWN[:, :, 0].astype(np.uint16) * 257
    found = decode_picture(Image(saved(Pillow.fromarray(grey))))
    assert (found == SHOWN[:, :, :1]).all()


def test_a_rotated_picture_is_upright() -> None:
    """By the EXIF orientation 6: turned by 90 degrees."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    found = decode_picture(Image(saved(SHOWN, "JPEG", quality=100, subsampling=0, exif=exif)))
    assert found.shape == (60, 40, 3)
    assert np.abs(found.astype(int) - np.rot90(SHOWN, -1)).mean() < 3


def test_cmyk_becomes_rgb() -> None:
    """Close to the picture that was converted."""
    found = decode_picture(Image(saved(Pillow.fromarray(SHOWN).convert("CMYK"), "JPEG", quality=100)))
    assert np.abs(found.astype(int) - SHOWN).mean() < 8


def test_a_transparent_picture_is_on_white() -> None:
    """And so is one with a transparent colour of its palette."""
    clear = Pillow.fromarray(np.zeros((9, 9, 4), np.uint8))
    assert (decode_picture(Image(saved(clear))) == 255).all()
    palette = Pillow.new("P", (9, 9))
    assert (decode_picture(Image(saved(palette, transparency=0))) == 255).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"GIF89a" + b"\0" * 30, "a GIF file; give PNG or JPEG"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP file"),
        (b"\0\0\0\x18ftypmp42", "an MP4"),
        (b"<svg xmlns=", "an SVG"),
        (b"nothing", "of no known format"),
        (wav(), "a WAV file; give PNG or JPEG"),
        (b"\0" * (MOST_BYTES + 1), "are the most"),
    ],
)
def test_only_known_formats_are_read(data: bytes, says: str) -> None:
    """The first bytes tell, and no program is started for the others."""
    with pytest.raises(InputError, match=says):
        Image(data)


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [(0, 5, "damaged|at least one"), (9000, 9000, "64 million"), (2**31 - 1, 2**31 - 1, "too large to decode"),
     (5000, 3, "100 times"), (8, 8, "damaged")],
)  # fmt: skip
def test_sizes_are_checked_before_decoding(width: int, height: int, says: str) -> None:
    """Of a file that claims them in its header."""
    with pytest.raises(InputError, match=says):
        decode_picture(Image(png_of(width, height)))


@pytest.mark.parametrize("cut", [9, 30, 60, 200])
def test_a_file_that_is_cut_short_is_refused(cut: int) -> None:
    """At any place."""
    for data in (png(1), saved(SHOWN, "JPEG")):
        with pytest.raises(InputError, match="damaged"):
            decode_picture(Image(data[:cut]))


def test_a_file_is_a_picture_or_a_sound(tmp_path: Path) -> None:
    """Whichever its first bytes tell; a missing one is named."""
    for name, data in (("p", png()), ("s", wav())):
        (tmp_path / name).write_bytes(data)
    assert [media_of(tmp_path / name).kind for name in "ps"] == ["picture", "sound"]
    with pytest.raises(InputError, match="there is no file"):
        media_of(tmp_path / "x")
    with pytest.raises(InputError, match="there is no picture"):
        Image(tmp_path / "x")
    assert MOST_PIXELS == 64_000_000
