"""The child process of :mod:`localspec.probe.load_test`: loads files and decodes a few tokens. llama.cpp may abort it.

On standard output it reports ``ready``, then for each case ``passed``, ``nan`` where the logits are no numbers, or
``refused`` where llama.cpp or localspec raised an error in order; the parent will meet the same error itself.
llama.cpp's log goes to standard error. The parent keeps standard input open while it lives.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

from localspec.errors import LocalspecError
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.rows import NonFiniteLogitsError
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


def main(cases: Sequence[Sequence[str]], types: Sequence[str | None]) -> None:
    """Try ``cases`` in order, each a role and files, up to the first that fails; then end the process.

    ``types``: those of the target's keys and values.
    """
    params = replace(_PARAMS, cache_type_k=types[0], cache_type_v=types[1])
    _prepare_to_abort()
    print("ready", flush=True)
    try:
        for _ in _passed([(role, [Path(name) for name in files]) for role, *files in cases], params):
            print("passed", flush=True)
    except NonFiniteLogitsError:
        print("nan", flush=True)
    except (LocalspecError, MemoryError) as error:
        print(f"localspec: {error}", file=sys.stderr, flush=True)
        print("refused", flush=True)
    os._exit(0)


def _prepare_to_abort() -> None:
    """Abort without a core file, dialogue or traceback, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetErrorMode(_NO_DIALOGUES)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    with suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def _passed(cases: Sequence[tuple[str, list[Path]]], params: ContextParams) -> Iterator[None]:
    """Yield for each case that passed."""
    with ExitStack() as stack:
        target: LlamaContext | None = None
        for role, files in cases:
            if role != "mtp" or target is None:
                hidden = any(role == "mtp" for role, _ in cases)
                context = _open(files[0], _PARAMS if role == "model" else params, hidden, stack)
                if context is None:
                    yield  # the parent refuses it by its kind
                    continue
                _decode(context)
                target = context if role != "model" else target
            if role == "mtp" and target is not None:
                _draft(target, files[1], stack)
            yield


def _open(path: Path, params: ContextParams, hidden: bool, stack: ExitStack) -> LlamaContext | None:
    model = LlamaModel(read_header(path), params, verbose=True)
    stack.callback(model.close)
    if not model.can_generate:
        return None
    context = LlamaContext(model, params, _CONTEXT, hidden=hidden)
    stack.callback(context.close)
    return context


def _decode(context: LlamaContext) -> None:
    """Run the graph once, with several rows and their logits: an abort depends on the file, not on the pass."""
    context.decode(_use_vocabulary(context.model)[:_WIDTH], "all")


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


def _draft(target: LlamaContext, path: Path, stack: ExitStack) -> None:
    """A step of an assistant on the cache of ``target``, from its last row."""
    model = LlamaModel(read_header(path), _PARAMS, verbose=True)
    stack.callback(model.close)
    target.rewind(0)  # an assistant is made before the prefill
    tokens = _use_vocabulary(target.model)
    assistant = LlamaMtpContext(model, _PARAMS, target)
    stack.callback(assistant.close)
    target.decode(tokens[:_WIDTH], "all")
    position, token = len(target.tokens), tokens[_WIDTH]
    assistant.step(token, position, target.hidden()[-1])
