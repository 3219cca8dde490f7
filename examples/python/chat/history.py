"""The last fifteen messages. Each has its own key, so that concurrent events write different keys."""

from typing import Any

from plugnode import kv

LIMIT = 15
PREFIX = "message:"

Message = dict[str, Any]


def add(message: Message) -> None:
    kv.set(f"{PREFIX}{message['at']:015}:{message['id']}", message)
    for key in keys()[:-LIMIT]:
        kv.delete(key)


def last() -> list[Message]:
    """The last messages, oldest first."""
    messages = (kv.get(key) for key in keys()[-LIMIT:])
    return [message for message in messages if message is not None]


def keys() -> list[str]:
    return sorted(kv.keys(PREFIX))
