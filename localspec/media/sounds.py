"""Checks of a sound file's headers before a decoder sees it: lengths and rates that a damaged or hostile file claims.

mtmd's decoder (miniaudio) takes memory for the length that the header claims, so that length is checked here. A WAV
file is written anew from its format and its samples: nothing else in it reaches the decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from localspec.errors import InputError
from localspec.media.source import Media

#: Longest sound, in seconds.
MOST_SECONDS = 20 * 60
_RATES = range(4000, 384_001)
_MOST_CHANNELS = 8
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
#: Format, channels, rate, bytes a second, bytes a sample of all channels, bits a sample.
_WAV_FORMAT = struct.Struct("<HHIIHH")
#: Bits of a sample by the kind of numbers.
_WAV_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
#: Layer 3: kbit/s of MPEG 1, and of MPEG 2 and 2.5.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES = (44100, 48000, 32000)


def checked_sound(media: Media) -> bytes:
    """Return the file as a decoder may see it. Raises :class:`InputError` for one that is damaged or too long."""
    return {"WAV": _wav, "FLAC": _flac, "MP3": _mp3}[media.format](media)


def _damaged(media: Media, what: str) -> InputError:
    return InputError(f"{media.name} is a damaged {media.format} file ({what}); save it again.")


def _check_length(media: Media, samples: float, rate: int) -> None:
    if samples <= 0:
        raise InputError(f"{media.name} holds no sound; give one of at least a tenth of a second.")
    if samples > MOST_SECONDS * rate:
        raise InputError(f"{media.name} is {samples / rate:.0f} seconds long; {MOST_SECONDS} are the most. Cut it.")


def _wav(media: Media) -> bytes:
    data, shape = media.data, b""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt ":
            shape = data[at + 8 : at + 8 + min(size, 40)]
        if name == b"data":
            break
        at += 8 + size + size % 2
    else:
        raise _damaged(media, "it has no samples")
    if len(shape) < _WAV_FORMAT.size:
        raise _damaged(media, "it does not say how its samples are stored")
    kind, channels, rate, _, _, bits = _WAV_FORMAT.unpack_from(shape)
    if kind == _EXTENSIBLE and len(shape) >= 26:
        kind = int.from_bytes(shape[24:26], "little")
    if bits not in _WAV_BITS.get(kind, ()):
        raise InputError(f"{media.name} has samples of kind {kind} with {bits} bits; save it as PCM of 16 bits.")
    if rate not in _RATES or not 1 <= channels <= _MOST_CHANNELS:
        raise _damaged(media, f"{channels} channels, {rate} samples a second")
    frame = channels * bits // 8
    stored = len(data) - at - 8
    if size > stored and size < 0xFFFFFF00:  # programs that write to a pipe do not know the size
        raise _damaged(media, f"{stored} of {size} bytes of samples are there")
    samples = data[at + 8 : at + 8 + min(size, stored) // frame * frame]
    _check_length(media, len(samples) / frame, rate)
    head = _WAV_FORMAT.pack(kind, channels, rate, rate * frame, frame, bits)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _flac(media: Media) -> bytes:
    """FLAC begins with the block STREAMINFO (RFC 9639, section 8.2)."""
    data = media.data
    if len(data) < 42 or data[4] & 0x7F or int.from_bytes(data[5:8], "big") != 34:
        raise _damaged(media, "its first block is not that of its format")
    packed = int.from_bytes(data[18:26], "big")
    rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    if rate not in _RATES or not 1 <= channels <= _MOST_CHANNELS:
        raise _damaged(media, f"{channels} channels, {rate} samples a second")
    if samples == 0:
        raise InputError(f"{media.name} does not say how long it is; save it again.")
    _check_length(media, samples, rate)
    return data


@dataclass(frozen=True)
class _Frame:
    """Header of a frame of MPEG audio, layer 3. ``size`` in bytes; ``samples`` of each channel."""

    at: int
    size: int
    samples: int
    rate: int
    side: int


def _mp3(media: Media) -> bytes:
    found, samples, rate = 0, 0, 0
    for frame in _frames(media.data):
        if not found:
            _check_counts(media, frame)
        rate = frame.rate
        samples += frame.samples
        found += 1
        if samples > MOST_SECONDS * rate:
            break
    if found < 2:
        raise _damaged(media, "it has no frames")
    _check_length(media, samples, rate)
    return media.data


def _frames(data: bytes) -> Iterator[_Frame]:
    """Yield the frames that follow one another; bytes between them are skipped."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) > at + 10:
        size = sum((data[at + 6 + i] & 0x7F) << (7 * (3 - i)) for i in range(4))
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        frame = _frame(data, at)
        if frame is not None:
            yield frame
        at += frame.size if frame is not None else 1


def _frame(data: bytes, at: int) -> _Frame | None:
    second, third = data[at + 1], data[at + 2]
    version, bitrate, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
    if second & 0xE6 != 0xE2 or version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _MP3_RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    size = (144000 if first else 72000) * _BITRATES[0 if first else 1][bitrate] // hertz + (third >> 1 & 1)
    mono = data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(at, size, 1152 if first else 576, hertz, side)


def _check_counts(media: Media, frame: _Frame) -> None:
    """Check the number of frames that a first frame of Xing's or VBRI's kind claims: a decoder believes it."""
    data = media.data
    for tag, at, count in (
        (b"Xing", frame.at + 4 + frame.side, 8), (b"Info", frame.at + 4 + frame.side, 8), (b"VBRI", frame.at + 36, 14),
    ):  # fmt: skip
        if data[at : at + 4] == tag:
            claimed = int.from_bytes(data[at + count : at + count + 4], "big")
            if claimed * 24 > len(data):  # the smallest frame has 24 bytes
                raise _damaged(media, f"{claimed} frames in {len(data)} bytes")
