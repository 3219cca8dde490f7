"""The last fifteen messages. Each has its own key, so that concurrent events write different keys."""

from plugnode import kv

LIMIT = 15
PREFIX = "message:"


def add(message):
    kv.set(f"{PREFIX}{message['at']:015}:{message['id']}", message)
    for key in keys()[:-LIMIT]:
        kv.delete(key)


def last():
    """The last messages, oldest first."""
    messages = (kv.get(key) for key in keys()[-LIMIT:])
    return [message for message in messages if message is not None]


def keys():
    return sorted(kv.keys(PREFIX))
