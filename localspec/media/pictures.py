"""Pictures → pixels, with limits before anything is decoded.

Pillow decodes, in place of the decoder in mtmd: it knows rotated pictures (EXIF), CMYK and 16-bit samples, tells a
damaged file, and its JPEG pixels are those that transformers sees.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from localspec.errors import InputError
from localspec.media.source import Media

#: Most pixels of a picture: 192 MB when decoded.
MOST_PIXELS = 64_000_000
#: Largest ratio of the sides. Encoders cut a picture into squares, and have few places in a row.
MOST_RATIO = 100
_OPAQUE_MODES = ("RGB", "L", "1", "CMYK", "YCbCr")


def decode_picture(media: Media) -> NDArray[np.uint8]:
    """Return the pixels, shape (height, width, 3), upright, 8 bits, on white where the picture is transparent.

    Raises :class:`InputError` for a file that is damaged, cut short, too large, or too narrow.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # only where there is a picture

    damaged = f"{media.name} is a damaged {media.format} file; save it again."
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(media.data), formats=[media.format]) as image:
            warnings.simplefilter("ignore")  # about sizes, which are checked here, and about metadata
            _check_size(media, *image.size)
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(_rgb(upright), np.uint8)
    except InputError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise InputError(f"{media.name} is too large to decode; make it smaller.") from None
    except (UnidentifiedImageError, OSError, ValueError, TypeError, SyntaxError, ArithmeticError, LookupError):
        raise InputError(damaged) from None  # Pillow raises any of these for data that makes no sense
    except Exception as error:  # struct.error and zlib.error have no common base
        if type(error).__module__ in ("struct", "zlib"):
            raise InputError(damaged) from None
        raise
    if pixels.ndim != 3:
        raise InputError(damaged)
    return np.ascontiguousarray(pixels)


def _check_size(media: Media, width: int, height: int) -> None:
    if min(width, height) < 1:
        raise InputError(f"{media.name} has {width} × {height} pixels; it must have at least one.")
    if width * height > MOST_PIXELS:
        raise InputError(
            f"{media.name} has {width} × {height} pixels; {MOST_PIXELS // 1_000_000} million are the most. "
            "Make it smaller."
        )
    if max(width, height) > MOST_RATIO * min(width, height):
        raise InputError(
            f"{media.name} has {width} × {height} pixels; one side may be {MOST_RATIO} times the other at most. "
            "Cut it into several."
        )


def _rgb(image: object) -> object:
    """Return ``image`` (Pillow's) as 8-bit RGB on white."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    if image.mode.startswith("I") or image.mode == "F":  # grey with 16 bits or more, which Pillow would clip
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode != "F" else 255.0
        grey = np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in _OPAQUE_MODES and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
