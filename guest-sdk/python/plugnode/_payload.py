"""Conversion of arguments to JSON and attachments, as in Socket.IO's binary packets."""

import json
from typing import Any

from wit_world.imports.types import Payload


def encode(values: list[Any] | tuple[Any, ...]) -> Payload:
    """Encodes JSON values, with bytes at any depth."""
    attachments: list[bytes] = []

    def replace(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}
        if isinstance(value, dict):
            return {key: replace(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [replace(item) for item in value]
        return value

    text = json.dumps([replace(value) for value in values], ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Payload(text.encode("utf-8", "replace").decode(), attachments)


def decode(payload: Payload) -> list[Any]:
    def restore(value: dict[str, Any]) -> Any:
        if value.get("_placeholder") is True and isinstance(value.get("num"), int):
            return payload.attachments[value["num"]]
        return value

    values: list[Any] = json.loads(payload.json, object_hook=restore if payload.attachments else None)
    return values
