"""Laws of GBNF grammars: they mean what llama.cpp takes them to mean, and answers follow them."""

from __future__ import annotations

import ctypes
import json
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

import localspec
from localspec.engine import Engine
from localspec.errors import InputError
from localspec.gguf.header import read_header
from localspec.grammar.answer import answer_grammar
from localspec.grammar.compiling import compiled
from localspec.grammar.gbnf import Alt, Chars, Node, Ref, Rep, Seq, Text, parse_gbnf
from localspec.grammar.lark import gbnf_grammar, to_lark
from localspec.grammar.vocabulary import GrammarVocabulary
from localspec.llama.binding import bindings
from localspec.llama.model import LlamaModel
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from tests.helpers.grammar_support import GRAMMARS, shortest
from tests.helpers.support import load_fixed

NAMES = [item["name"] for item in GRAMMARS]
NOT_FOR_LLAMA_CPP = "left recursion"


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    with (
        localspec.load("tiny", "none", threads=1) as plain,
        load_fixed("tiny", "auto") as drafting,
    ):
        yield plain, drafting


@pytest.fixture(scope="module")
def vocabulary(engines: tuple[Engine, Engine]) -> GrammarVocabulary:
    return GrammarVocabulary(engines[0].vocabulary)


class LlamaGrammar:
    """llama.cpp's own grammar sampler, token by token."""

    def __init__(self, model: LlamaModel, grammar: str) -> None:
        self._lib: Any = bindings()
        vocab = self._lib.llama_model_get_vocab(model.handle)
        self._sampler = self._lib.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        assert self._sampler

    def takes(self, token: int) -> bool:
        one = (self._lib.llama_token_data * 1)(self._lib.llama_token_data(token, 0.0, 0.0))
        array = self._lib.llama_token_data_array(one, 1, -1, False)
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return bool(one[0].logit == 0.0)

    def accept(self, token: int) -> None:
        self._lib.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        self._lib.llama_sampler_free(self._sampler)


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    loaded = LlamaModel(read_header(TINY_TARGET), ContextParams(threads=1))
    yield loaded
    loaded.close()


def derive(rules: Mapping[str, Node], node: Node, rng: random.Random, depth: int = 0) -> str:
    """A random text of ``node``, by the rules and nothing else."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Chars):
        fine = [c for c in "aZ09 \t\n\"'\\,é日😀" if not any(a <= ord(c) <= b for a, b in node.ranges)]
        return rng.choice(fine) if node.negated else chr(rng.randint(*rng.choice(node.ranges)))
    if isinstance(node, Ref):
        return derive(rules, rules[node.name], rng, depth + 1)
    if isinstance(node, Seq):
        return "".join(derive(rules, part, rng, depth) for part in node.parts)
    if isinstance(node, Alt):
        return derive(rules, rng.choice(node.options), rng, depth)
    most = node.low if depth > 8 else node.low + 3
    times = rng.randint(node.low, most if node.high is None else min(node.high, most))
    return "".join(derive(rules, node.node, rng, depth + 1) for _ in range(times))


@pytest.mark.parametrize("item", GRAMMARS, ids=NAMES)
def test_every_text_of_the_rules_is_allowed(vocabulary: GrammarVocabulary, item: dict[str, Any]) -> None:
    """Random derivations, however ambiguous their parts are."""
    rules, grammar = parse_gbnf(item["grammar"]), gbnf_grammar(item["grammar"])[0]
    rng = random.Random(1)
    texts = 0
    while texts < 40:
        try:
            text = derive(rules, rules["root"], rng)
        except RecursionError:
            continue
        if len(text) > 300:
            continue
        texts += 1
        matcher, tokens = vocabulary.matcher(grammar), vocabulary.tokenize(text.encode())
        assert matcher.try_consume_tokens(tokens) == len(tokens), text
        assert matcher.is_accepting(), text


@pytest.mark.parametrize("item", GRAMMARS, ids=NAMES)
def test_answers_follow_the_grammar(
    engines: tuple[Engine, Engine], vocabulary: GrammarVocabulary, model: LlamaModel, item: dict[str, Any]
) -> None:
    """By an independent parser, and by llama.cpp's own; the same with a drafter."""
    least = shortest(vocabulary, gbnf_grammar(item["grammar"])[0])
    for seed, budget in enumerate((max(least, 1), least + 5, least + 40)):
        options: dict[str, Any] = {"temperature": 1.0, "seed": seed, "max_tokens": budget, "grammar": item["grammar"]}
        plain, drafted = (engine.chat([{"role": "user", "content": "Go on."}], **options) for engine in engines)
        assert (drafted.text, drafted.finish_reason) == (plain.text, plain.finish_reason)
        assert plain.notice is None
        check_pattern(item["pattern"], plain.text)
        if item["name"] != NOT_FOR_LLAMA_CPP:
            check_llama_cpp(model, item["grammar"], plain.tokens, vocabulary.ends[0])


def check_pattern(pattern: str | None, text: str) -> None:
    if pattern == "json":
        json.loads(text)
    elif pattern is not None:
        assert re.fullmatch(pattern, text), text


def check_llama_cpp(model: LlamaModel, source: str, tokens: Sequence[int], end: int) -> None:
    grammar = LlamaGrammar(model, source)
    for token in tokens:
        assert grammar.takes(token)
        grammar.accept(token)
    assert grammar.takes(end)
    grammar.close()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no rule 'root'"),
        ('x ::= "a"', "no rule 'root'"),
        ("root ::= a", "no rule 'a' (line 1, column 10)"),
        ('root := "x"', "expected ::= (line 1, column 6)"),
        ('root ::= "abc', "ends within quotes"),
        ("root ::= [z-a]", "range z-a is empty"),
        ('root ::= ("a"', "expected )"),
        ('root ::= "a"{3,1}', "{3,1} cannot be followed"),
        ('root ::= "a"{9999999}', "counts go up to"),
        ('root ::= "\\q"', "\\q is no escape"),
        ('root ::= "\\d"', "\\d is no single character"),
        ("root ::= [a-\\d]", "\\d is no single character"),
        ('root ::= "a"' + "*" * 5000, "repeated more than 100 times over"),
        ('root ::= "a"' + "*" * 90, "too deeply nested"),
        ("root ::= [\\uD800]", "\\uD800 is no character"),
        ("root ::= <think>", "write their text"),
        ("root ::= *", "nothing before '*'"),
        ('root ::= "a"\nx ::= )', "expected the end of the rule (line 2, column 7)"),
        ("root ::= " + "(" * 5000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_bad_grammar_is_refused_with_its_place(source: str, message: str) -> None:
    """In one sentence, before any model."""
    with pytest.raises(InputError, match=re.escape(message)):
        answer_grammar(grammar=source)


@pytest.mark.parametrize("source", ["root ::= root", 'root ::= root "a"', "root ::= [^\\x00-\\U0010FFFF]"])
def test_a_grammar_without_an_end_is_refused(engines: tuple[Engine, Engine], source: str) -> None:
    """Before the prompt is read."""
    with pytest.raises(InputError, match="no text may follow"):
        engines[0].stream("Once", grammar=source)


def test_empty_answer(engines: tuple[Engine, Engine]) -> None:
    """A grammar may allow the empty text."""
    assert engines[0].generate("Once", grammar='root ::= ""', max_tokens=5).text == ""


def test_escapes_comments_and_lines() -> None:
    """They mean what they mean in llama.cpp."""
    rules = parse_gbnf(
        '# first\nroot ::= ( "a" | # one\n "\\x41\\u00e9\\U0001F600" )+ [\\]\\\\^-] .\r\nb-2 ::= root{2,}'
    )
    root = rules["root"]
    assert isinstance(root, Seq)
    assert root.parts[0] == Rep(Alt((Text("a"), Text("Aé😀"))), 1, None)
    assert root.parts[1] == Chars(((93, 93), (92, 92), (94, 94), (45, 45)))
    assert root.parts[2] == Chars((), negated=True)
    assert rules["b-2"] == Rep(Ref("root"), 2, None)


def test_escapes_of_common_generators() -> None:
    """Escaped signs are themselves; classes of regular expressions are those of ASCII."""
    rules = parse_gbnf(r"""root ::= [a\-z\d.] \w+ "\.\/\'\$" [^\s-] \D \S""")
    root = rules["root"]
    assert isinstance(root, Seq)
    assert root.parts[0] == Chars(((97, 97), (45, 45), (122, 122), (48, 57), (46, 46)))
    assert root.parts[1] == Rep(Chars(((48, 57), (65, 90), (95, 95), (97, 122))), 1, None)
    assert root.parts[2] == Text("./'$")
    assert root.parts[3] == Chars(((9, 13), (32, 32), (45, 45)), negated=True)
    assert root.parts[4] == Chars(((0, 47), (58, 0x10FFFF)))
    assert root.parts[5] == Chars(((0, 8), (14, 31), (33, 0x10FFFF)))


def chain(length: int, last: str) -> str:
    rules = [f'r{i} ::= "a" r{i + 1}' for i in range(length)]
    return "\n".join(["root ::= r0", *rules, f"r{length} ::= {last}"])


@pytest.mark.parametrize("last", ['"b"', '"b" root?'])
def test_a_chain_of_ten_thousand_rules_is_followed(vocabulary: GrammarVocabulary, last: str) -> None:
    """With recursion and without. On the stack of a thread such a chain would end the process."""
    matcher = vocabulary.matcher(gbnf_grammar(chain(10_000, last))[0])
    assert matcher.compute_ff_bytes().startswith(b"aaaa")
    with pytest.raises(InputError, match="more than 30000 levels deep"):
        gbnf_grammar(chain(20_000, last))


def test_rules_that_name_each_other_in_any_order() -> None:
    """Rules that are not needed are left out; a rule that may be empty makes the answer empty."""
    rules = parse_gbnf('lost ::= lost "x"\nroot ::= a b\nb ::= a?\na ::= c | "x"\nc ::= ""')
    assert to_lark(rules).splitlines()[1] == "start: (WHOLE)?"
    assert to_lark(parse_gbnf('root ::= a "x"\na ::= ""')).splitlines()[1] == "start: WHOLE"
    assert "r0: " in to_lark(parse_gbnf('root ::= a\na ::= "x" b\nb ::= a | "y"'))


def test_where_no_deep_stack_is_to_be_had_grammars_are_still_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the caller's own; the size of other stacks stays what it was."""
    before = threading.stack_size()
    assert compiled(gbnf_grammar('root ::= "a"')[0]) == (False, [])
    assert threading.stack_size() == before

    def refuse(self: ThreadPoolExecutor, work: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert compiled(gbnf_grammar('root ::= "a"')[0]) == (False, [])
    assert threading.stack_size() == before
