"""Messages of ggml's RPC protocol (``ggml/src/ggml-rpc/ggml-rpc.cpp``), as far as a probe needs them. Pure.

A request is a command (1 byte), the length of its body (8 bytes) and the body. A response is a length and a body. All
numbers are little-endian; structures are packed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from localspec.gguf.types import BLOCKS

#: The version of the protocol that these messages belong to. Numbers of operations may change with its last part.
VERSION = (7, 0, 0)
#: Body of HELLO: the capabilities of a connection, none.
HELLO = bytes(24)
#: Bytes of the response to HELLO: three of version, one of padding, the capabilities.
HELLO_RESPONSE = 28
#: ggml's numbers of types and operations.
F32, Q8_0 = 0, 8
MUL_MAT = 29
#: Flag of tensors that are computed.
_COMPUTE = 16

_REQUEST = struct.Struct("<BQ")
LENGTH = struct.Struct("<Q")
#: id, type, buffer, sizes, strides, operation, its parameters, flags, sources, source of a view, its offset, data,
#: name, uses.
_TENSOR = struct.Struct("<QIQ4I4II64si10QQQQ64si")


class Command(IntEnum):
    """ggml's ``enum rpc_cmd``."""

    ALLOC_BUFFER = 0
    BUFFER_GET_BASE = 3
    FREE_BUFFER = 4
    BUFFER_CLEAR = 5
    SET_TENSOR = 6
    GET_TENSOR = 8
    GRAPH_COMPUTE = 10
    GET_DEVICE_MEMORY = 11
    HELLO = 14
    DEVICE_COUNT = 15


@dataclass(frozen=True)
class Tensor:
    """A tensor of two dimensions in a buffer of the worker. ``data``: its address there. ``sources``: ids."""

    id: int
    type: int
    shape: tuple[int, int]
    row_bytes: int
    buffer: int
    data: int
    operation: int = 0
    sources: tuple[int, ...] = ()

    def packed(self) -> bytes:
        size = self.row_bytes * self.shape[1]
        element = BLOCKS[self.type][1]
        return _TENSOR.pack(
            self.id, self.type, self.buffer, *self.shape, 1, 1, element, self.row_bytes, size, size, self.operation,
            bytes(64), _COMPUTE if self.operation else 0, *self.sources, *[0] * (10 - len(self.sources)), 0, 0,
            self.data, bytes(64), 0,
        )  # fmt: skip


def request(command: Command, body: bytes = b"") -> bytes:
    return _REQUEST.pack(command, len(body)) + body


def set_tensor(tensor: Tensor, data: bytes) -> bytes:
    """Body of SET_TENSOR; the worker does not keep the data, and does not answer."""
    return tensor.packed() + bytes(1 + 8) + data


def get_tensor(tensor: Tensor, size: int) -> bytes:
    """Body of GET_TENSOR for its first ``size`` bytes."""
    return tensor.packed() + struct.pack("<QQ", 0, size)


def graph(device: int, node: Tensor, sources: tuple[Tensor, ...]) -> bytes:
    """Body of GRAPH_COMPUTE for one operation."""
    tensors = [*sources, node]
    head = struct.pack("<IIQI", device, 1, node.id, len(tensors))
    return head + b"".join(tensor.packed() for tensor in tensors)
