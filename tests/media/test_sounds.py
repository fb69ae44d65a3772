"""Laws of sounds: what a decoder sees was checked, and takes no more memory than its file honestly needs."""

from __future__ import annotations

import io
import wave

import pytest

from localspec.errors import InputError
from localspec.media.sounds import MOST_SECONDS, checked_sound
from localspec.media.source import Audio
from tests.helpers.media_files import flac_head, mp3_frames, raw_wav, tone, wav


def test_a_wav_file_is_written_anew() -> None:
    """With its samples, and nothing else."""
    data = wav(tone(seconds=0.2), 22_050, 2)
    odd = data[:12] + b"LIST\x05\0\0\0abcde\0" + data[12:] + b"junk"
    found = checked_sound(Audio(odd))
    with wave.open(io.BytesIO(found)) as a, wave.open(io.BytesIO(data)) as b:
        assert a.getparams() == b.getparams()
        assert a.readframes(10**6) == b.readframes(10**6)
    assert b"abcde" not in found


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw_wav(1, 1, 16_000, 16, b""), "no sound"),
        (raw_wav(1, 1, 1, 16, b"\0" * 64), "1 samples a second"),
        (raw_wav(1, 99, 16_000, 16, b"\0" * 400), "99 channels"),
        (raw_wav(1, 0, 16_000, 16, b"\0" * 400), "0 channels"),
        (raw_wav(1, 1, 16_000, 13, b"\0" * 400), "13 bits"),
        (raw_wav(2, 1, 16_000, 4, b"\0" * 400), "save it as PCM"),
        (raw_wav(1, 1, 16_000, 16, b"\0" * 400, size=2**31), "400 of 2147483648 bytes"),
        (raw_wav(1, 1, 4000, 8, b"\0" * 4000 * (MOST_SECONDS + 1)), "1200 are the most"),
        (b"RIFF\0\0\0\0WAVE" + b"\0" * 30, "no samples"),
        (wav()[:40], "no samples"),
        (flac_head(16_000, 1, 2**36 - 1), "are the most"),
        (flac_head(16_000, 1, 0), "does not say how long"),
        (flac_head(0, 1, 16_000), "0 samples a second"),
        (b"fLaC\0\0\0\1", "damaged"),
        (mp3_frames(9, claimed=2**32 - 1), "4294967295 frames"),
        (mp3_frames(1), "no frames"),
        (b"ID3\4\0\0\0\0\x0f\x7f" + b"\0" * 40, "no frames"),
    ],
)
def test_claims_are_checked(data: bytes, says: str) -> None:
    """Rates, channels, lengths and counts of headers."""
    with pytest.raises(InputError, match=says):
        checked_sound(Audio(data))


def test_a_long_mp3_is_refused() -> None:
    """By counting its frames."""
    with pytest.raises(InputError, match="are the most"):
        checked_sound(Audio(mp3_frames(MOST_SECONDS * 44_100 // 1152 + 50)))
    assert checked_sound(Audio(mp3_frames(50)))
