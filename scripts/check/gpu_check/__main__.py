"""Measure this machine's GPU with random pairs of Gemma 4's shapes, within a time, and write the results to a folder.

Nothing is downloaded but llama.cpp's source, where it must be built. Each job runs in a process of its own and its
result is on disk when it ends, so a check that is stopped leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any

from localspec._version import __version__
from localspec.control.costs import Costs
from scripts.check.gpu_check.build import Build, find_or_make
from scripts.check.gpu_check.files import TYPES, write_assistant, write_target
from scripts.check.gpu_check.jobs import Job, by_pair, plan, seconds_for
from scripts.check.gpu_check.predict import gains, simulate
from scripts.check.gpu_check.report import page
from scripts.check.gpu_check.shapes import SHAPES

#: Seconds of a check, and of a quick one; the share of them that a build may take.
_SECONDS, _QUICK_SECONDS, _BUILD_SHARE = 460.0, 240.0, 0.6
#: Layers on the GPU where only a part of them is placed there.
_PART = 3
#: Seconds beyond its own end after which a job is ended.
_GRACE_S = 20.0


class Check:
    """The folder of a check, its build and the results so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.end = arguments, monotonic() + arguments.seconds
        self.folder: Path = arguments.out
        self.pairs = arguments.work / "pairs"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.build = Build("not looked for")

    def run(self) -> None:
        """Build, and run every job."""
        arguments = self.arguments
        self.folder.mkdir(parents=True, exist_ok=True)
        say("looking for a build of llama.cpp that uses a GPU ...")
        self.build = find_or_make(
            arguments.work.resolve() / "llama.cpp", arguments.source, _BUILD_SHARE * arguments.seconds
        )
        say(f"{self.build.how}; devices: {', '.join(one['name'] for one in self.build.devices) or 'none'}")
        jobs = plan(
            quick=arguments.quick, scale=arguments.scale, sizes=arguments.sizes, types=arguments.types,
            narrow=arguments.narrow,
        )  # fmt: skip
        self.save()
        for index, (job, last) in enumerate(by_pair(jobs)):
            seconds = seconds_for(jobs, index, self.end - monotonic())
            if seconds > 1.0:
                say(f"{job.name} (up to {seconds:.0f} s) ...")
                self.jobs[job.name] = self._run(job, index, seconds)
            else:
                self.jobs[job.name] = {"about": job.name, "failed": "no time was left"}
            if last and not arguments.keep:
                for path in self.pairs.glob(f"{job.pair}*"):
                    path.unlink()
            self.save()

    def _run(self, job: Job, index: int, seconds: float) -> dict[str, Any]:
        began = monotonic()
        target, assistant = self._files(job)
        left = max(1.0, seconds - (monotonic() - began))
        path = self.folder / f"{index:02d} {job.name}.json"
        environment = {**os.environ, **self.build.environment, "LOCALSPEC_CACHE": str(self.arguments.work / "cache")}
        command = self._command(job, path, target, assistant, left)
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=left + _GRACE_S, check=False
            )
            failed = " ".join(done.stderr.split())[-600:] if done.returncode else None
            output = done.stdout
        except subprocess.TimeoutExpired:
            failed, output = f"it was ended after {left + _GRACE_S:.0f} s", ""
        found: dict[str, Any] = {"about": job.name}
        if job.kind == "doctor":
            with suppress(ValueError):
                found |= {"doctor": json.loads(output), "complete": True}
        with suppress(OSError, ValueError):
            found |= json.loads(path.read_text())
        found["seconds"] = monotonic() - began
        if failed:
            found["failed"] = failed
        self._predict(found)
        path.write_text(json.dumps(found, indent=1))
        return found

    def _predict(self, found: dict[str, Any]) -> None:
        """Add what drafting would bring to measured costs."""
        if "costs" not in found:
            return
        costs = Costs.from_dict(found["costs"])
        found["gains"] = gains(costs)
        if self.arguments.traces:
            found["traces"] = simulate(costs, found["about"], self.arguments.traces)

    def _command(self, job: Job, path: Path, target: Path, assistant: Path, seconds: float) -> list[str]:
        threads = ["--threads", str(self.arguments.threads)] if self.arguments.threads else []
        if job.kind == "doctor":
            more = [] if not threads else ["-t", threads[1]]
            pair = ["-m", str(target), "-d", str(assistant), "-c", "1024"]
            return [sys.executable, "-m", "localspec", "doctor", "--json", *pair, *more]
        module = "answers" if job.kind == "answers" else "measure"
        command = [sys.executable, "-m", f"scripts.check.gpu_check.{module}", str(path), str(target), str(assistant)]
        command += ["--about", job.name, "--seconds", f"{seconds:.0f}"]
        if job.kind == "answers":
            return command
        command += ["--parts", ",".join(job.parts), "--ctx", str(self.arguments.ctx), *threads]
        command += ["--batch", str(self.arguments.batch)]
        return [*command, "--layers", str(_PART)] if job.half else command

    def _files(self, job: Job) -> tuple[Path, Path]:
        """Paths of the pair's files, written if they are not there."""
        target, assistant = (self.pairs / f"{job.pair}{end}.gguf" for end in ("", "-assistant"))
        if not target.exists():
            partial = target.with_suffix(".partial")
            write_assistant(assistant, job.shape)
            write_target(partial, job.shape, job.type)
            partial.replace(target)
        return target, assistant

    def save(self) -> None:
        """Write all results so far, and the page."""
        about = {
            "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
            "localspec": __version__,
            "platform": f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs",
            "build": vars(self.build),
            "arguments": {name: str(value) for name, value in vars(self.arguments).items()},
        }
        (self.folder / "results.json").write_text(
            json.dumps({"about": about, "jobs": self.jobs}, indent=1, default=str)
        )
        (self.folder / "report.md").write_text(page(about, self.jobs))


def say(text: str) -> None:
    """Tell what happens, on standard error."""
    print(f"gpu check: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/check/gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size alone, in four minutes; for a laptop")
    parser.add_argument(
        "--seconds", type=float, help=f"time for all of it ({_SECONDS:.0f}, quick {_QUICK_SECONDS:.0f})"
    )
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, help="sizes of Gemma 4 to measure")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=["Q4_0", "Q4_K_M", "Q8_0"], help="file types")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the layers and the vocabulary to make")
    parser.add_argument("--narrow", action="store_true", help="small widths: for a device as slow as lavapipe")
    parser.add_argument("--ctx", type=int, default=8192, help="tokens of the context")
    parser.add_argument("--batch", type=int, default=512, help="tokens of a prefill pass; 64 is the least")
    parser.add_argument("--threads", type=int, help="threads of llama.cpp")
    parser.add_argument("--traces", type=Path, help="file of `localspec bench --traces` to replay at the costs")
    parser.add_argument("--source", type=Path, help="folder or sdist with llama.cpp's source, if it must be built")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check/results"), help="folder of the results")
    parser.add_argument("--work", type=Path, default=Path("build/gpu-check"), help="folder of the build and the pairs")
    parser.add_argument("--keep", action="store_true", help="keep the pairs")
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or (_QUICK_SECONDS if arguments.quick else _SECONDS)
    arguments.sizes = arguments.sizes or (["E2B", "26B-A4B"] if arguments.quick else ["E2B", "26B-A4B", "12B", "E4B"])
    check = Check(arguments)
    try:
        check.run()
    finally:
        if not arguments.keep:
            shutil.rmtree(check.pairs, ignore_errors=True)
    say(f"done: {check.folder / 'report.md'}; the file to send in is {check.folder / 'results.json'}")


if __name__ == "__main__":
    main()
