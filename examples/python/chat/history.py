"""The last fifteen messages: a key for each, so that instances which add at the same time never write the same one."""

from plugnode import kv

KEPT = 15
PREFIX = "message:"


def remember(message):
    kv.set(f"{PREFIX}{message['at']:015}:{message['id']}", message)
    for key in keys()[:-KEPT]:
        kv.delete(key)


def last():
    """Oldest first."""
    messages = (kv.get(key) for key in keys()[-KEPT:])
    return [message for message in messages if message is not None]


def keys():
    return sorted(kv.keys(PREFIX))
