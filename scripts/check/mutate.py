#!/usr/bin/env python3
"""Break the code on purpose and count how often the tests notice.

    python -m scripts.check.mutate accept loop --count 50
    python -m scripts.check.mutate --root OTHER --sources localspec/accept.py --tests tests/test_accept.py

A mutant is a copy of the package with one change: another comparison or operator, a number one larger or smaller, a
condition negated, ``and`` for ``or``, a statement left out, ``None`` returned. ``--count`` mutants of each group are
drawn with a fixed seed. The tests run on one mutant at a time and stop at the first failure. A mutant that fails, or
that needs far more processor time than the unchanged code, is killed. Prints the survivors and the share killed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_INVARIANCE = "tests/probe/test_batch_invariance.py"
_PADDED = "tests/generation/test_fixed_width.py"
#: Sources and the tests that state their laws, quick tests first.
GROUPS = {
    "accept": (
        ["localspec/generation/accept.py"],
        ["tests/generation/test_accept.py", "tests/generation/test_loop.py"],
    ),
    "loop": (
        ["localspec/generation/loop.py"],
        [
            "tests/generation/test_drive.py",
            "tests/generation/test_loop.py",
            _PADDED,
            "tests/test_engine.py",
        ],
    ),
    "sampling": (
        ["localspec/sampling"],
        ["tests/sampling", "tests/generation/test_accept.py"],
    ),
    "batch_invariance": (
        ["localspec/probe/batch_invariance.py", "localspec/probe/fixed_width.py", "localspec/generation/passes.py"],
        [
            f"{_PADDED}::test_a_pass_reads_as_many_cells_as_each_of_its_rows_alone",
            f"{_PADDED}::test_a_width_of_one_is_none",
            "tests/probe/test_probe.py",
            _INVARIANCE,
            "tests/probe/test_fixed_width.py",
            "tests/probe/test_exactness.py",
        ],
    ),
    "control": (["localspec/control"], ["tests/control", "tests/draft/test_model.py"]),
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    path: Path
    line: int
    change: str
    text: str


class _Sites(ast.NodeVisitor):
    """Collects every change that can be made to a tree, as (node, attribute, new value)."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, str, object]] = []

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if default:
                self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.visit(node.args)
        self.generic_visit(ast.Module(node.body, []), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.generic_visit(ast.Module(node.body, []), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts stay."""

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self._negate(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._negate(node)
        else:
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node)

    def _negate(self, node: ast.If | ast.While | ast.IfExp) -> None:
        self.found.append((node, "test", ast.UnaryOp(ast.Not(), node.test)))
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, operator in enumerate(node.ops):
            if other := _COMPARISONS.get(type(operator)):
                self.found.append((node, "ops", [*node.ops[:i], other(), *node.ops[i + 1 :]]))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if other := _OPERATORS.get(type(node.op)):
            self.found.append((node, "op", other()))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if other := _OPERATORS.get(type(node.op)):
            self.found.append((node, "op", other()))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.found.append((node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And()))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.found.append((node, "value", not node.value))
        elif isinstance(node.value, int | float):
            self.found += [(node, "value", node.value + 1), (node, "value", node.value - 1)]

    def visit_Return(self, node: ast.Return) -> None:
        if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.found.append((node, "value", ast.Constant(None)))
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST, owner: ast.AST | None = None) -> None:
        """Visit below ``node``; a block belongs to ``owner``, if given."""
        for name, block in ast.iter_fields(node):
            for i, child in enumerate(block if isinstance(block, list) else []):
                if _removable(child):
                    self.found.append((owner or node, name, [*block[:i], ast.Pass(), *block[i + 1 :]]))
        super().generic_visit(node)


def _removable(node: object) -> bool:
    """True for a statement without which the code still compiles: a call, an assignment to a part, a jump."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Break | ast.Continue | ast.Delete)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of the tree."""
    text = path.read_text(encoding="utf-8")
    plain = ast.unparse(ast.parse(text))
    count = len(_sites(ast.parse(text)))
    for i in range(count):
        tree = ast.parse(text)
        node, name, value = _sites(tree)[i]
        setattr(node, name, value)
        after = ast.unparse(ast.fix_missing_locations(tree))
        if after != plain:
            yield Mutant(path, getattr(node, "lineno", 1), _difference(plain, after), after)


def _sites(tree: ast.AST) -> list[tuple[ast.AST, str, object]]:
    visitor = _Sites()
    visitor.visit(tree)
    return visitor.found


def _difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    for a, b in zip(old, new, strict=False):
        if a != b:
            return f"{a.strip()!r} became {b.strip()!r}"
    return "the end is missing"


@dataclass
class Checker:
    """Runs tests on a copy of the repository."""

    folder: Path
    tests: list[str]
    seconds: int = 600
    """Most processor time of a run."""

    def run(self) -> tuple[bool, float, str]:
        """(passed, processor seconds, last lines)."""
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--hypothesis-profile=mutants"]
        tests = [sys.executable, "-m", "pytest", *options, *self.tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(
            ["sh", "-c", f'ulimit -t {self.seconds}; exec "$@"', "sh", *tests],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=60 + 20 * self.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, _ = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return process.returncode == 0, after.ru_utime - before.ru_utime, out[-600:]


def check(name: str, root: Path, sources: list[str], tests: list[str], count: int, seed: int) -> tuple[int, int]:
    """(killed, all) of ``count`` mutants of a group."""
    paths = [path for source in sources for path in sorted([*(root / source).rglob("*.py"), root / source])]
    found = [mutant for path in paths if path.is_file() for mutant in mutants(path)]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
        shutil.copytree(root, copied, ignore=ignored)
        checker = Checker(copied, tests)
        passed, seconds, out = checker.run()
        if not passed:
            raise SystemExit(f"{name}: the tests fail on the unchanged code:\n{out}")
        checker.seconds = int(5 + 2 * seconds)
        print(f"{name}: {len(chosen)} of {len(found)} mutants; the tests take {seconds:.1f} s", flush=True)
        for mutant in chosen:
            place = copied / mutant.path.relative_to(root)
            place.write_text(mutant.text, encoding="utf-8")
            survived, _, _ = checker.run()
            shutil.copy(mutant.path, place)
            killed += not survived
            if survived:
                print(f"  survived: {mutant.path.relative_to(root)}:{mutant.line}: {mutant.change}", flush=True)
    print(f"{name}: {killed} of {len(chosen)} killed, {100 * killed / len(chosen):.0f}%", flush=True)
    return killed, len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="default: all")
    parser.add_argument("--root", type=Path, default=ROOT, help="repository to break; it is copied")
    parser.add_argument("--sources", nargs="+", help="files or folders, in place of a group")
    parser.add_argument("--tests", nargs="+", help="the tests of --sources")
    parser.add_argument("--count", type=int, default=50, help="mutants of a group")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    groups = {name: GROUPS[name] for name in arguments.groups or GROUPS}
    if arguments.sources:
        groups = {"sources": (arguments.sources, arguments.tests)}
    counts = [check(name, arguments.root, *group, arguments.count, arguments.seed) for name, group in groups.items()]
    killed, total = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f"all: {killed} of {total} killed, {100 * killed / total:.0f}%")


if __name__ == "__main__":
    main()
