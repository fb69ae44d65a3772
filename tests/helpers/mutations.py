"""Damaged files for the laws of model files: seeded mutations at meaningful places of GGUF, safetensors and JSON.

Most change one thing that a reader trusts (a length, a count, a type, a shape, an offset, a name), because random bytes
in a file of a few megabytes nearly always land in weights, where they break nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _F32 = 8, 9, 6
_HUGE = (2**64 - 1, 2**63, 2**63 - 1, 2**40, 2**32, 2**32 - 1, 2**31, 2**31 - 1, 10**6)
_FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e38, 1e-45)

Mutation = tuple[bytes, str]


@dataclass(frozen=True)
class Field:
    """``size`` bytes at ``at`` that mean ``what``; ``of`` names the key or tensor."""

    what: str
    of: str
    at: int
    size: int


def gguf_fields(data: bytes | bytearray) -> tuple[list[Field], int]:
    """Every number of a sound header, and where the header ends. Items of arrays: the first few and the last."""
    found = [Field("version", "", 4, 4), Field("count", "tensors", 8, 8), Field("count", "pairs", 16, 8)]
    at = 24

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "little")

    def string(what: str, of: str = "") -> str:
        nonlocal at
        found.append(Field(f"length of {what}", of, at, 8))
        length = number(8)
        found.append(Field(what, of, at, length))
        at += length
        return data[at - length : at].decode("utf-8", "replace")

    n_tensors, n_pairs = int.from_bytes(data[8:16], "little"), int.from_bytes(data[16:24], "little")
    for _ in range(n_pairs):
        key = string("key")
        found.append(Field("type of value", key, at, 4))
        kind = number(4)
        if kind == _STRING:
            string("text", key)
        elif kind != _ARRAY:
            found.append(Field("float" if kind == _F32 else "value", key, at, _SIZES[kind]))
            at += _SIZES[kind]
        else:
            found += [Field("type of array", key, at, 4), Field("count", key, at + 4, 8)]
            kind, count = number(4), number(8)
            for i in range(count):
                if kind == _STRING and i % (count // 50 + 1) == 0:
                    string("item", key)
                elif kind == _STRING:
                    length = number(8)
                    at += length
                else:
                    if i < 8:
                        found.append(Field("float" if kind == _F32 else "value", key, at, _SIZES[kind]))
                    at += _SIZES[kind]
    for _ in range(n_tensors):
        name = string("name")
        found.append(Field("dimensions", name, at, 4))
        for _ in range(number(4)):
            found.append(Field("extent", name, at, 8))
            at += 8
        found += [Field("type of tensor", name, at, 4), Field("offset", name, at + 4, 8)]
        at += 12
    return found, at


def mutate_gguf(data: bytes, random: Random, fields: list[Field], end: int) -> Mutation:
    """``data``, a sound file with these ``fields``, with one to three things wrong."""
    found = bytearray(data)
    told = [random.choice(_GGUF)(found, random, fields, end) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    return bytes(found), "; ".join(told)


def _number(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    field = random.choice([field for field in fields if field.size in (1, 2, 4, 8) and field.what != "key"])
    old = int.from_bytes(found[field.at : field.at + field.size], "little")
    near = (0, 1, old - 1, old + 1, old * 2, old // 2, random.randrange(64))
    new = random.choice((*near, *_HUGE)) % 256**field.size
    found[field.at : field.at + field.size] = new.to_bytes(field.size, "little")  # after a cut this may append
    return f"{field.what} of {field.of!r}: {old} to {new}"


def _float(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    field = random.choice([field for field in fields if field.what == "float"])
    new = random.choice(_FLOATS)
    found[field.at : field.at + 4] = struct.pack("<f", new)
    return f"{field.of!r} to {new}"


def _kind(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    field = random.choice([field for field in fields if field.what.startswith("type of")])
    new = random.choice((*range(15), *range(15, 42), 2**31, 2**32 - 1))
    found[field.at : field.at + 4] = new.to_bytes(4, "little")
    return f"{field.what} of {field.of!r} to {new}"


def _text(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    """A letter of a key, a name, a text or a token: the thing is then missing, or there twice."""
    field = random.choice([field for field in fields if field.what in ("key", "name", "text", "item") and field.size])
    at = field.at + random.randrange(field.size)
    found[at : at + 1] = bytes([random.choice((0, 255, 0x30, 0x41, random.randrange(256)))])
    return f"byte {at} of {field.what} {field.of!r}"


def _twice(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    """One field's bytes over another's of the same kind and size."""
    field = random.choice(fields)
    other = random.choice([other for other in fields if (other.what, other.size) == (field.what, field.size)])
    found[other.at : other.at + other.size] = found[field.at : field.at + field.size]
    return f"{field.what} of {field.of!r} at {other.at}"


def _flip(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    """Bits of the header, or of everything."""
    count, limit = random.randrange(1, 9), random.choice((end, end, len(found)))
    places = [random.randrange(min(limit, len(found))) for _ in range(count) if found]
    for at in places:
        found[at] ^= 1 << random.randrange(8)
    return f"bits flipped at {places}"


def _cut(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    at = random.choice((random.randrange(end), random.randrange(len(found) + 1), len(found) - random.randrange(1, 64)))
    del found[max(0, at) :]
    return f"cut at {at}"


def _splice(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    at, size = random.randrange(min(end, len(found)) + 1), random.randrange(1, 40)
    if random.random() < 0.5:
        del found[at : at + size]
        return f"{size} bytes gone at {at}"
    found[at:at] = found[at : at + size]
    return f"{size} bytes twice at {at}"


def _weights(found: bytearray, random: Random, fields: list[Field], end: int) -> str:
    """A run of the data to ones, which are NaN in every float type, or to noise."""
    at, size = random.randrange(end, max(end + 1, len(found))), random.choice((2, 64, 4096, 10**6))
    size = max(0, min(size, len(found) - at))
    noise = random.random() < 0.5
    found[at : at + size] = random.randbytes(size) if noise else b"\xff" * size
    return f"{size} bytes of {'noise' if noise else 'ones'} at {at}"


_Mutator = Callable[[bytearray, Random, list[Field], int], str]
_GGUF: tuple[_Mutator, ...] = (
    *[_number] * 3, *[_kind] * 2, _float, _text, _twice, _flip, _cut, _splice, _weights,
)  # fmt: skip


# JSON and safetensors.

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, -1e308, "", "x", "\0", "BF16",
    "sliding_attention", [], [[]], {}, {"a": 1}, [None], [0] * 1000, "é" * 1000, float("nan"), float("inf"),
)  # fmt: skip


def mutate_json(text: str, random: Random) -> Mutation:
    """A JSON object with a value replaced, doubled or gone; or bytes of its text damaged."""
    if random.random() < 0.25:
        return _damage(text.encode(), random)
    value = json.loads(text)
    told = [_edit(value, random) for _ in range(random.choice((1, 1, 2)))]
    return json.dumps(value).encode(), "; ".join(told)


def mutate_safetensors(data: bytes, random: Random) -> Mutation:
    """A lying header length, a header with something wrong in it, or damaged bytes."""
    length = int.from_bytes(data[:8], "little")
    choice = random.randrange(4)
    if choice == 0:
        new = random.choice((0, 1, length - 1, length + 1, len(data), len(data) - 8, *_HUGE))
        return new.to_bytes(8, "little") + data[8:], f"header length {length} to {new}"
    if choice == 1:
        return _damage(data, random, length + 8)
    header = json.loads(data[8 : 8 + length])
    told = _edit(header, random)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :], told


def _damage(data: bytes, random: Random, end: int | None = None) -> Mutation:
    found = bytearray(data)
    told = random.choice((_flip, _cut, _splice))(found, random, [], min(end or len(found), len(found)))
    if end is not None and random.random() < 0.3 and len(found) > end:
        told = _weights(found, random, [], end)
    return bytes(found), told


def _edit(value: Any, random: Random) -> str:
    """Change one thing somewhere inside a JSON value, any depth as likely as its breadth allows."""
    path: list[str] = []
    while True:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return "nothing"
        key = random.choice(keys)
        path.append(str(key)[:40])
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and random.random() < 0.8:
            value = inner
            continue
        where = ".".join(path)
        match random.randrange(5):
            case 0:
                del value[key]
                return f"{where} gone"
            case 1 if isinstance(value, dict):
                value[random.choice(("", "\n", "x" * 300, str(key) + "2"))] = value.pop(key)
                return f"{where} renamed"
            case 2 if isinstance(inner, int) and not isinstance(inner, bool):
                value[key] = random.choice((inner - 1, inner + 1, inner * 2, inner // 2, -inner))
            case _:
                value[key] = random.choice(_VALUES)
        return f"{where} to {str(value[key])[:40]}"
