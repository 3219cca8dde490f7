"""Writes MessagePack, for values that contain bytes: JSON has none."""

import struct
from typing import Any

_BYTES = (bytes, bytearray, memoryview)


def has_bytes(value: Any) -> bool:
    """Whether a value contains bytes."""
    if isinstance(value, dict):
        return any(has_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_bytes(item) for item in value)
    return isinstance(value, _BYTES)


def array_head(length: int) -> bytes:
    """The head of an array; its items follow."""
    return _head(length, 0x90, 16, None, 0xDC, 0xDD)


def encode(value: Any) -> bytes:
    """A value as bytes."""
    chunks: list[bytes] = []
    _write(value, chunks)
    return b"".join(chunks)


def _head(length: int, fix: int | None, fix_end: int, one: int | None, two: int, four: int) -> bytes:
    if fix is not None and length < fix_end:
        return bytes([fix | length])
    if one is not None and length < 1 << 8:
        return bytes([one, length])
    return struct.pack(">BH", two, length) if length < 1 << 16 else struct.pack(">BI", four, length)


def _write(value: Any, chunks: list[bytes]) -> None:
    match value:
        case None:
            chunks.append(b"\xc0")
        case bool():
            chunks.append(b"\xc3" if value else b"\xc2")
        case int():
            chunks.append(_integer(value))
        case float():
            chunks.append(struct.pack(">Bd", 0xCB, value))
        case str():
            data = value.encode()
            chunks += [_head(len(data), 0xA0, 32, 0xD9, 0xDA, 0xDB), data]
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
            chunks += [_head(len(data), None, 0, 0xC4, 0xC5, 0xC6), data]
        case list() | tuple():
            chunks.append(array_head(len(value)))
            for item in value:
                _write(item, chunks)
        case dict():
            chunks.append(_head(len(value), 0x80, 16, None, 0xDE, 0xDF))
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} of a dictionary is no text")
                _write(key, chunks)
                _write(item, chunks)
        case _:
            raise TypeError(f"a value of type {type(value).__name__} cannot be sent")


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -(1 << 63) <= value < 1 << 63:
        return struct.pack(">Bq", 0xD3, value)
    raise ValueError(f"the integer {value} has more than 64 bits")
