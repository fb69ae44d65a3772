"""2,000 lines of mixed text, the same on every machine and Python: code, scripts, emoji, control characters.

A line is one text to tokenise; some hold line breaks. Drawn with a generator of its own, because the sequences of
``random`` are not promised across versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

COUNT = 2000
FRAMED = "Hello, world"  # to see what a tokenizer puts around a text

CODE = (
    "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    "    for (int i = 0; i < 1024; ++i) { buf[i] ^= 0xFF; }\t// flip\n",
    "SELECT * FROM \"users\" WHERE id = 42 AND name LIKE '%o''Brien%';",
    "#include <vector>\n\nint main(int argc, char **argv) {\n\treturn argc>>1;\n}\n",
    'git commit -m "fix: it\'s done" && ./run.sh --flag=$HOME/x.y 2>&1 | tee -a log_2024-01-31.txt',
    '{"key": [1, 2.5e-10, null, true], "nested": {"a\\u00e9": "\\n"}}',
    "<div class='x'>&nbsp;<a href=\"https://example.org/a?b=c&d=%20#e\">t</a></div>",
    "x = lambda *a, **k: {**k, 'a': a[::-1]} # TODO(me): don't\r\n\r\n\tpass\r\n",
    'fn main() { let v: Vec<u8> = vec![0; 1_000_000]; println!("{:?}", &v[..3]); }',
    "const f = async ({a, ...rest}) => (await g(a?.b ?? `t${rest}`)) !== undefined;;\n\n\n",
    "        if x==1:\n\t\t\ty = 'Ünïcode'\n\n\n\n            z\t=\t3.14159265358979\n",
    "%s|%-8.3f|0b1011|0o17|1e9|1.2.3.4|192.168.0.1:8080|12345678901234567890",
)
SENTENCES = (
    "The quick brown fox jumps over the lazy dog; I'm sure we'd've LIKED it, and you'll say it's fine, DON'T you?",
    "Zażółć gęślą jaźń – «où est l'été?» fragte Jürgen: „Straße, Maß, Übergröße“.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ёлка №5 – 100 ₽!",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· τι κάνεις; Ἐν ἀρχῇ ἦν ὁ λόγος",
    "نص حكيم له سر قاطع وذو شأن عظيم، مكتوب على ثوب أخضر ١٢٣٤٥ ٪",
    "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה, שָׁלוֹם עֲלֵיכֶם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। १२३४ क़ि ज़्यादा",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。２０２４年１２月３１日（星期二）……",
    "いろはにほへと ちりぬるを、ワカヨタレソ ツネナラム。ｶﾀｶﾅ もじ々〆ヶ",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 한글ㄱㄴㄷ",
    "Tiếng Việt: Nguyễn Thị Minh Khai đã đến Đà Nẵng lúc 3 giờ chiều.",
    "ვეფხისტყაოსანი շատ լավ է ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ አማርኛ ᠮᠣᠩᠭᠣᠯ தமிழ் ಕನ್ನಡ ລາວ ខ្មែរ မြန်မာ",
)
EMOJI = (
    "😀😃😄😁😆", "👩‍👩‍👧‍👦 👨🏽‍🚀 🏴‍☠️", "🇩🇪🇯🇵🇧🇷 ❤️‍🔥", "👍🏿👋🏻✌️", "🫠🪿🩷", "☕️☀️✨⚡", "1️⃣2️⃣#️⃣", "(╯°□°)╯︵ ┻━┻",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🙂.🙃!🤔?",
)  # fmt: skip
CONTROL = (
    "\x00", "\x01\x02\x03", "\x07\x08", "\x0b\x0c", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x85\x9f", "\xa0", "\xad",
    "\u200b\u200c\u200d", "\u2028\u2029", "\ufeff", "\u202e\u202c", "\u2003\u2009\u3000", "\ufffd", "\ufffe\uffff",
    "\ue000\uf8ff", "\U0010ffff", "\u180e", "\u0300\u0301\u0323", "\x1c\x1d\x1e\x1f",
)  # fmt: skip
SPACES = (
    " ",
    "  ",
    "   ",
    "     ",
    "\t",
    "\t\t",
    " \t ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\r\n",
    "\r",
    " \n ",
    "\n ",
    "    \n",
)
NUMBERS = (
    "0",
    "7",
    "42",
    "365",
    "1024",
    "65536",
    "1000000",
    "3.14",
    "1,234,567.89",
    "²³¹",
    "½",
    "Ⅷ",
    "①②③",
    "٣٤",
    "𝟘𝟙",
)
MARKS = (
    "!",
    "?!",
    "...",
    "…",
    "—",
    "-",
    "--",
    "_",
    "__init__",
    "'",
    "''",
    '"',
    "“”",
    "«»",
    "$",
    "€",
    "@#%^&*",
    "\\",
    "~`",
    "|",
    "<",
    ">",
    "</s>",
    "[INST]",
    "<|",
    "|>",
    "<0x0A>",
    "▁",
    "▁▁",
    "Ġ",
    "Ċ",
    "ſ",
    "İ",
    "ß",
    "ﬁ",
    "\u212b",
)
CONTRACTIONS = ("'s", "'S", "'t", "'T", "'re", "'RE", "'rE", "'ve", "'m", "'ll", "'LL", "'d", "'D", "’s", "'x", "'lla")


BLOCKS = (
    (0x20, 0x7F), (0x80, 0x24F), (0x250, 0x1C7F), (0x2000, 0x2FFF), (0x3000, 0xA6FF), (0xAC00, 0xD7A3),
    (0xF900, 0xFFFF), (0x10000, 0x1056F), (0x1D400, 0x1D7FF), (0x1F300, 0x1F9FF), (0x20000, 0x2A6DF),
)  # fmt: skip


class Draw:
    """A linear congruential generator (Knuth's MMIX constants)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % bound

    def one(self, items: Sequence[str]) -> str:
        return items[self.below(len(items))]


def _piece(draw: Draw) -> str:
    text = draw.one(draw_from(draw, (CODE, SENTENCES)))
    start = draw.below(len(text))
    return text[start : start + 1 + draw.below(40)]


def draw_from(draw: Draw, pools: Sequence[Sequence[str]]) -> Sequence[str]:
    return pools[draw.below(len(pools))]


def _letter(draw: Draw) -> str:
    """A code point of blocks that Unicode 16 did not change: libraries have different versions of the others."""
    first, last = BLOCKS[draw.below(len(BLOCKS))]
    return chr(first + draw.below(last - first + 1))


def _mixture(draw: Draw, special: Sequence[str]) -> str:
    makers: tuple[Callable[[], str], ...] = (
        lambda: _piece(draw),
        lambda: _piece(draw),
        lambda: draw.one(SPACES),
        lambda: draw.one(SPACES),
        lambda: draw.one(EMOJI),
        lambda: draw.one(CONTROL),
        lambda: draw.one(NUMBERS),
        lambda: draw.one(MARKS),
        lambda: draw.one(CONTRACTIONS),
        lambda: draw.one(("a", "Z", "é", "ж", "字", "क", "word", "Word", "WORD")),
        lambda: "".join(_letter(draw) for _ in range(1 + draw.below(6))),
        lambda: draw.one(special) if special else "",
    )
    return "".join(makers[draw.below(len(makers))]() for _ in range(1 + draw.below(12)))


def special_tokens(tokenizer: dict[str, Any]) -> list[str]:
    """The added tokens of a ``tokenizer.json`` that are more than a run of one blank."""
    return [token["content"] for token in tokenizer["added_tokens"] if token["content"].strip("\n▁\t")]


def lines(special: Sequence[str] = (), count: int = COUNT, seed: int = 20) -> list[str]:
    """``count`` texts, ``special`` (tokens with a meaning to the tokenizer) strewn in."""
    draw = Draw(seed)
    whole = [*CODE, *SENTENCES, *EMOJI, *CONTROL, *SPACES, *NUMBERS, *MARKS, *CONTRACTIONS, *special]
    runs = [kind * length for kind in (" ", "\n", "\t", "a", "=", "1", "👍", "\r\n") for length in (1, 2, 3, 7, 31, 40)]
    made = [*whole, *runs]
    while len(made) < count:
        made += filter(None, [_mixture(draw, special)])
    return made[:count]
