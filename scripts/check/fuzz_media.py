"""Damaged pictures, sounds and projectors: each must end in one clear error or be read, and none may kill the process.

    python -m scripts.check.fuzz_media --count 1900 --projectors 100 --seed 0

Pictures and sounds are read, divided and encoded as for a prompt, many in one child process, which tells each result;
its death is a result too. Its memory is compared with what the header needs: twice the pixels or samples, and some
MiB for decoders. Damaged projectors go through ``localspec.load`` and a prompt with a picture, a process for each.
Files that fail are kept in ``--keep``. For Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image as Pillow

from localspec.errors import LocalspecError
from localspec.media.source import Audio, Image
from tests.helpers import mutations
from tests.helpers.media_files import flac, mp3_frames, pixels, png, saved, tone, wav
from tests.helpers.projectors import write_projector

#: Bytes beyond twice the need of a file that decoders and Python may touch.
FIXED = 24 * 2**20


def sources() -> dict[str, bytes]:
    """A good file of every kind."""
    grey = Pillow.fromarray(pixels(4, 90, 70)).convert("L")
    cmyk = Pillow.fromarray(pixels(5, 90, 70)).convert("CMYK")
    return {
        "rgb.png": png(1, 120, 90),
        "palette.png": saved(Pillow.fromarray(pixels(2, 90, 70)).quantize(16), transparency=3),
        "grey16.png": saved(Pillow.fromarray(pixels(3, 90, 70)[:, :, 0].astype("uint16") * 257)),
        "rgb.jpg": saved(pixels(4, 120, 90), "JPEG"),
        "progressive.jpg": saved(pixels(4, 120, 90), "JPEG", progressive=True),
        "grey.jpg": saved(grey, "JPEG"),
        "cmyk.jpg": saved(cmyk, "JPEG"),
        "mono.wav": wav(),
        "stereo.wav": wav(tone(880.0, 0.3), 44_100, 2),
        "mono.flac": flac(),
        "frames.mp3": mp3_frames(30, claimed=30),
    }


def mutant(data: bytes, draw: Random) -> tuple[bytes, str]:
    """Change bytes near the start, numbers to extremes, cut, repeat, or mix parts."""
    found, kind = bytearray(data), draw.randrange(7)
    head = min(len(found), draw.choice((64, 200, len(found))))
    at = draw.randrange(head)
    if kind == 0:
        for _ in range(draw.randint(1, 8)):
            found[draw.randrange(head)] = draw.randrange(256)
    elif kind == 1:
        size = draw.choice((2, 4, 8))
        value = draw.choice(
            (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, draw.getrandbits(8 * size))
        )
        found[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))  # type: ignore[arg-type]
    elif kind == 2:
        del found[draw.randrange(len(found)) :]
    elif kind == 3:
        del found[at : at + draw.randint(1, 40)]
    elif kind == 4:
        found[at:at] = found[at : at + draw.randint(1, 64)] * draw.randint(1, 20)
    elif kind == 5:
        found[at] ^= 1 << draw.randrange(8)
    else:
        other = draw.randrange(len(found))
        found[at : at + 32] = found[other : other + 32]
    return bytes(found), f"kind {kind} at {at}"


def peak(reset: bool = False) -> int:
    """Most resident bytes since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def child(projector: str) -> None:
    """Read files, a line of JSON with a path each, and tell how each ended."""
    import localspec

    engine: Any = localspec.load("tiny", "none", mmproj=projector, device="none", threads=1)
    for data in (png(9), wav()):
        engine.check(_ask(Image(data) if data[:1] == b"\x89" else Audio(data)))
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(json.loads(line))
        before = peak(reset=True)
        outcome, message, need = "read", "", 0
        try:
            data = path.read_bytes()
            media = (Audio if path.suffix in (".wav", ".flac", ".mp3") else Image)(data, path.name)
            tokens = engine.prompt_tokens(_ask(media))
            need = sum(token < 0 for token in tokens) * 9 * 64 * 12
            engine.chat(_ask(media), max_tokens=1, temperature=0)
            engine._reader.free()  # what is kept for later is no need of the file
        except LocalspecError as error:
            outcome, message = "refused", str(error)
            if not message or "\n" in message or len(message) > 600:
                outcome = "failed: message"
        except BaseException as error:
            outcome, message = f"failed: {type(error).__name__}", repr(error)
        used = peak() - before
        if outcome in ("read", "refused") and used > 2 * need + FIXED + 2 * claimed(path):
            outcome, message = "failed: too much memory", f"{used} bytes, need {need}; {message}"
        print(json.dumps([outcome, message, used]), flush=True)


def claimed(path: Path) -> int:
    """Bytes of the pixels that a picture's header honestly claims, within the limit; of a sound those of the file."""
    try:
        with Pillow.open(path) as image:
            size = 4 * image.width * image.height
            return size if size <= 4 * 64_000_000 else 0
    except Exception:
        return 64 * path.stat().st_size


def _ask(media: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [media, "What is it?"]}]


class Children:
    """A child that is replaced when it dies."""

    def __init__(self, projector: Path) -> None:
        self._projector = projector
        self._process: subprocess.Popen[str] | None = None

    def run(self, path: Path) -> tuple[str, str, int]:
        if self._process is None:
            command = [sys.executable, "-m", "scripts.check.fuzz_media", "--child", str(self._projector)]
            quiet: Any = {
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.DEVNULL,
                "text": True,
            }
            self._process = subprocess.Popen(command, **quiet)
            assert self._process.stdout
            assert self._process.stdout.readline() == "ready\n"
        process = self._process
        assert process.stdin
        assert process.stdout
        print(json.dumps(str(path)), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            self._process = None
            return f"failed: the process ended with {process.wait()}", "", 0
        outcome, message, used = json.loads(answer)
        return outcome, message, used

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def projectors(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str, Path]]:
    """Damaged projectors through the real entry: what each ended as."""
    data = write_projector(folder / "sound.gguf").read_bytes()
    fields, end = mutations.gguf_fields(data)
    code = (
        "import sys, localspec\nfrom tests.helpers.media_files import png\ntry:\n"
        " with localspec.load('tiny', 'none', mmproj=sys.argv[1], device='none', threads=1) as llm:\n"
        "  llm.chat([{'role': 'user', 'content': [localspec.Image(png()), 'x']}], max_tokens=1)\n print('read')\n"
        "except localspec.LocalspecError as error:\n print('refused', str(error)[:300])\n"
    )
    for number in range(count):
        path = folder / "mutant.gguf"
        path.write_bytes(mutations.mutate_gguf(data, Random(f"{seed} {number}"), fields, end)[0])
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            yield f"failed: the process ended with {done.returncode}", done.stderr[-400:], path
        else:
            outcome, _, message = done.stdout.strip().partition(" ")
            dead = "breaks down on" in message
            yield f"{outcome} by the trial: llama.cpp died in it" if dead else outcome, message, path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1900, help="pictures and sounds")
    parser.add_argument("--projectors", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "localspec-fuzz-media")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["LOCALSPEC_CACHE"] = str(Path(name) / "cache")
        return fuzz(options, Path(name))


def fuzz(options: argparse.Namespace, folder: Path) -> int:
    found, counts, most = sources(), dict[str, Counter[str]](), 0
    children = Children(write_projector(folder / "mmproj.gguf"))

    def note(kind: str, outcome: str, message: str, path: Path) -> None:
        counts.setdefault(kind, Counter())[outcome] += 1
        if outcome.startswith("failed"):
            options.keep.mkdir(parents=True, exist_ok=True)
            kept = options.keep / f"{options.seed}-{sum(map(Counter.total, counts.values()))}-{path.name}"
            kept.write_bytes(path.read_bytes())
            print(f"{path.name}: {outcome}: {message[:300]}\n    kept as {kept}", flush=True)

    for number in range(options.count + len(found)):
        name = list(found)[number % len(found)]
        path = folder / name
        data = found[name] if number < len(found) else mutant(found[name], Random(f"{options.seed} {number}"))[0]
        path.write_bytes(data)
        outcome, message, used = children.run(path)
        if number < len(found) and outcome != "read":
            print(f"the sound {name} ends as {outcome}: {message}")
            return 1
        most = max(most, used)
        if number >= len(found):
            note("sounds" if path.suffix in (".wav", ".flac", ".mp3") else "pictures", outcome, message, path)
    children.close()
    for outcome, message, path in projectors(folder, options.projectors, options.seed):
        note("projectors", outcome, message, path)
    for kind, outcomes in counts.items():
        print(f"{kind}: " + ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common()))
    print(f"most memory of a picture or sound: {most / 2**20:.0f} MiB")
    return int(any(outcome.startswith("failed") for outcomes in counts.values() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
