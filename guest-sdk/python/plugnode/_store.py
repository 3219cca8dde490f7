"""The key-value store: what outlives events, instances and deploys."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from wit_world.imports import kv as wide
from wit_world.imports import wasi_keyvalue_store as store


class Bucket:
    """A bucket that the app is granted. Values are what JSON can say. Writes take effect with the event."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str, default: Any = None) -> Any:
        value = self.get_bytes(key)
        return default if value is None else json.loads(value)

    def get_bytes(self, key: str) -> bytes | None:
        return store.open(self.name).get(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """`ttl`: seconds after which it is gone."""
        self.set_bytes(key, json.dumps(value, ensure_ascii=False).encode(), ttl)

    def set_bytes(self, key: str, value: bytes, ttl: float | None = None) -> None:
        if ttl is None:
            store.open(self.name).set(key, value)
        else:
            wide.set_with_ttl(self.name, key, value, int(ttl * 1000))

    def delete(self, key: str) -> None:
        store.open(self.name).delete(key)

    def add(self, key: str, by: int = 1) -> None:
        """Adds to a number without reading it: events that do so at once do not stand in each other's way."""
        wide.add(self.name, key, by)

    def keys(self, prefix: str = "") -> Iterator[str]:
        cursor = None
        while True:
            page = wide.list_keys(self.name, prefix, cursor)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def __contains__(self, key: str) -> bool:
        return self.get_bytes(key) is not None


class State(dict[str, Any]):
    """A value of the store that is written back when the event ends, if it was changed."""


_states: dict[tuple[str, str], tuple[State, State]] = {}


def state(key: str, initial: dict[str, Any] | None = None, bucket: str = "default") -> State:
    """A dictionary that outlives events and instances. Should another event have changed it meanwhile, this one is handled again."""
    place = (bucket, key)
    if place not in _states:
        value = Bucket(bucket).get(key)
        known = State(copy.deepcopy(initial or {}) if value is None else value)
        _states[place] = (known, copy.deepcopy(known))
    return _states[place][0]


def keep() -> None:
    """Writes back what was changed."""
    for (bucket, key), (value, before) in _states.items():
        if value != before:
            Bucket(bucket).set(key, value)


def forget() -> None:
    _states.clear()


#: The bucket `default`; others are `Bucket(name)`.
kv = Bucket("default")
