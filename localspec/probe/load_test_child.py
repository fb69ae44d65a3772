"""The child process of :mod:`localspec.probe.load_test`: loads files and decodes a few tokens. llama.cpp may abort it.

On standard output it reports ``ready``. Then it reads the cases, and reports ``loaded`` for each, then ``passed`` for
each. It ends after ``nan``, where the logits are no numbers, and ``refused``, where llama.cpp or localspec raised an
error in order; the parent will meet the same error itself. llama.cpp's log goes to standard error. The parent keeps
standard input open while it lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Thread

from localspec.errors import LocalspecError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.host import default_threads
from localspec.llama.model import LlamaModel
from localspec.llama.mtmd import LlamaProjector, check_projector
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.rows import NonFiniteLogitsError
from localspec.models.eagle import read_layers
from localspec.models.projector import places_in_a_row
from localspec.params import ContextParams

#: Tokens of the context, and of a pass.
_CONTEXT, _WIDTH = 64, 2
#: llama.cpp's type of SentencePiece vocabularies. It throws where a byte has no token, so every byte is tokenized.
_SPM = 1
_TEXT = "Once upon a time, 3 × 14 = 42.\n\tdef f(x): return x  # żółć 你好 🙂\r\n<start> </s> [INST]"
#: Without a second copy of the weights: the memory may have no room for it where a GPU will hold them.
_PARAMS = ContextParams(ctx_size=_CONTEXT, device="none", verify_width=_WIDTH, batch=64, repack=False)
#: SetErrorMode's flags for no dialogue of any kind.
_NO_DIALOGUES = 0x8007


def main() -> None:
    """Try cases in order, each a role and files, up to the first that fails; then end the process.

    The cases and the ``types`` of the target's keys and values are a line of JSON on standard input.
    """
    _prepare_to_abort()
    print("ready", flush=True)
    job = json.loads(sys.stdin.readline())
    Thread(target=_end_with_parent, daemon=True).start()
    keys, values = job["types"]
    threads = max(1, default_threads() - 1)  # the parent loads meanwhile
    params = replace(_PARAMS, threads=threads, cache_type_k=keys, cache_type_v=values)
    cases = [(role, [Path(name) for name in files]) for role, *files in job["cases"]]
    try:
        for report in islice(_reports(cases, params), 2 * len(cases)):  # not to its end, where it would free everything
            print(report, flush=True)
    except NonFiniteLogitsError:
        print("nan", flush=True)
    except (LocalspecError, MemoryError) as error:
        print(f"localspec: {error}", file=sys.stderr, flush=True)
        print("refused", flush=True)
    os._exit(0)


def _prepare_to_abort() -> None:
    """Abort without a core file, dialogue or traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetErrorMode(_NO_DIALOGUES)


def _end_with_parent() -> None:
    with suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def _reports(cases: Sequence[tuple[str, list[Path]]], params: ContextParams) -> Iterator[str]:
    """Yield ``loaded`` for each case, then ``passed`` for each."""
    hidden = any(role == "mtp" for role, _ in cases)
    target, runs = None, list[Callable[[], None]]()
    for role, files in cases:
        if role == "mmproj":
            runs.append(partial(_look_and_listen, *files))
        elif role == "model":
            runs.append(partial(_decode, _open(files[0], replace(params, cache_type_k=None, cache_type_v=None))))
        elif role == "target":
            target = _open(files[0], params, hidden=hidden)
            runs.append(partial(_decode, target))
        elif role == "heads":
            runs.append(partial(_draft_with_heads, *_open_heads(files, params)))
        else:
            target = target or _open(files[0], params, hidden=hidden)
            runs.append(partial(_draft, target, _open_assistant(files[1], params, target)))
        yield "loaded"
    for run in runs:
        run()
        yield "passed"


def _open(path: Path, params: ContextParams, *, hidden: bool = False) -> LlamaContext | None:
    """None for a model that the parent refuses by its kind."""
    model = LlamaModel(read_header(path), params, verbose=True)
    return LlamaContext(model, params, _CONTEXT, hidden=hidden) if model.can_generate else None


def _open_assistant(path: Path, params: ContextParams, target: LlamaContext | None) -> LlamaMtpContext | None:
    return LlamaMtpContext(LlamaModel(read_header(path), params, verbose=True), params, target) if target else None


def _decode(context: LlamaContext | None) -> None:
    """Run the graph once, with several rows and their logits: an abort depends on the file, not on the pass."""
    if context is not None:
        context.decode(_use_vocabulary(context.model)[:_WIDTH], "all")


def _open_heads(files: Sequence[Path], params: ContextParams) -> tuple[LlamaContext, LlamaHeadContext]:
    """A target, and prediction heads in its file or in the second one."""
    models = [LlamaModel(read_header(path), params, heads=path == files[-1], verbose=True) for path in files]
    layers = read_layers(models[-1].header)
    target = LlamaContext(models[0], params, _CONTEXT, keeps_rows=True, input_layers=layers)
    return target, LlamaHeadContext(models[-1], params, target)


def _draft_with_heads(target: LlamaContext, heads: LlamaHeadContext) -> None:
    """A guess of prediction heads behind a few tokens, and one more."""
    tokens = _use_vocabulary(target.model)
    target.decode(tokens[:_WIDTH], "all")
    heads.read(tokens[: _WIDTH + 1], 0)
    heads.step(tokens[_WIDTH : _WIDTH + 2], heads.hidden().copy())


def _draft(target: LlamaContext | None, assistant: LlamaMtpContext | None) -> None:
    """A step of an assistant on the cache of ``target``, from its last row."""
    if target is None or assistant is None:
        return
    if not target.tokens:
        _decode(target)
    assistant.step(_use_vocabulary(target.model)[_WIDTH], len(target.tokens), target.hidden()[-1])


def _use_vocabulary(model: LlamaModel) -> list[int]:
    """Convert text to ids and back wherever a vocabulary may fail. Returns a few ids to decode."""
    vocabulary = model.vocabulary
    if vocabulary.type == _SPM:
        scalars = [*range(1, 0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 0x3FF)]
        vocabulary.tokenize("".join(map(chr, scalars)), add_special=False)
    tokens = [token for token in vocabulary.tokenize(_TEXT, add_special=True) if 0 <= token < vocabulary.n_tokens]
    for token in (*tokens, 0, vocabulary.n_tokens - 1):
        vocabulary.piece(token)
        vocabulary.text(token)
        vocabulary.raw_text(token)
        vocabulary.is_end(token)
    return (tokens + [0] * 2 * _WIDTH)[: 2 * _WIDTH]


def _look_and_listen(target: Path, path: Path) -> None:
    """Encode a picture and a sound with the projector of a target, which is mapped and not read."""
    model = LlamaModel(read_header(target), _PARAMS, verbose=True)
    projector = LlamaProjector(path, model, places=places_in_a_row(read_header(path, model=False)))
    check_projector(projector)
    projector.close()
    model.close()
