"""The key-value store: data that outlasts events, instances and deploys."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from wit_world.imports import kv as plugnode_kv
from wit_world.imports import wasi_keyvalue_store as store


class Bucket:
    """A bucket that the app is granted. Values are JSON. Writes are committed with the event; if a value that the event read has
    changed by then, the event is handled again."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str, default: Any = None) -> Any:
        value = self.get_bytes(key)
        return default if value is None else json.loads(value)

    def get_bytes(self, key: str) -> bytes | None:
        return store.open(self.name).get(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """With `ttl`, the key expires this many seconds after the commit of the event."""
        self.set_bytes(key, json.dumps(value, ensure_ascii=False).encode(), ttl)

    def set_bytes(self, key: str, value: bytes, ttl: float | None = None) -> None:
        if ttl is None:
            store.open(self.name).set(key, value)
        else:
            plugnode_kv.set_with_ttl(self.name, key, value, int(ttl * 1000))

    def delete(self, key: str) -> None:
        store.open(self.name).delete(key)

    def add(self, key: str, by: int = 1) -> None:
        """Adds to an integer, without reading it: concurrent additions do not cause events to be handled again."""
        plugnode_kv.add(self.name, key, by)

    def keys(self, prefix: str = "") -> Iterator[str]:
        cursor = None
        while True:
            page = plugnode_kv.list_keys(self.name, prefix, cursor)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def __contains__(self, key: str) -> bool:
        return self.get_bytes(key) is not None


class State(dict[str, Any]):
    """A dictionary in the store. If it was changed, it is written back when the event succeeds."""


#: The current and the original value of each state of this event, by bucket and key.
_states: dict[tuple[str, str], tuple[State, State]] = {}


def state(key: str, initial: dict[str, Any] | None = None, bucket: str = "default") -> State:
    """A dictionary that is kept in the key-value store: read by this call and, if it was changed, written back when the event
    succeeds. If another event has changed it meanwhile, this event is handled again. Call it again in each event."""
    id = (bucket, key)
    if id not in _states:
        value = Bucket(bucket).get(key)
        current = State(copy.deepcopy(initial or {}) if value is None else value)
        _states[id] = (current, copy.deepcopy(current))
    return _states[id][0]


def save_states() -> None:
    """Writes changed states back to the store."""
    for (bucket, key), (value, before) in _states.items():
        if value != before:
            Bucket(bucket).set(key, value)


def discard_states() -> None:
    _states.clear()


#: The bucket `default`; others are `Bucket(name)`.
kv = Bucket("default")
