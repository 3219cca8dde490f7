"""Timers that outlive instances: events that a listener asks to be given later."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from wit_world.imports import schedule as host

from ._clients import Client

Listener = TypeVar("Listener", bound=Callable[..., Any])


@dataclass(frozen=True)
class Due:
    """What is known of a timer that is due."""

    key: str
    #: When it was due, in seconds since 1970.
    at: float
    #: How many times before this one were left out, since nothing could be handled then.
    missed: int
    #: The client whose timer it is.
    client: Client | None


class Timers:
    """The timers of the event's client, or of the app. They are set with the effects of the event."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def at(self, key: str, when: datetime | float, kind: str, data: Any = None) -> None:
        """Sets a timer to a time, a datetime or seconds since 1970; one that is over is due at once. To set a key again
        replaces its timer."""
        seconds = when.timestamp() if isinstance(when, datetime) else when
        host.at(self._of(), key, max(0, round(seconds * 1000)), kind, json.dumps(data).encode())

    def after(self, key: str, seconds: float, kind: str, data: Any = None) -> None:
        """Sets a timer that is due after so many seconds."""
        self.at(key, time.time() + seconds, kind, data)

    def every(self, key: str, seconds: float, kind: str, data: Any = None) -> None:
        """Sets a timer that is due again and again, first after one period of 0.05 seconds or more."""
        host.every(self._of(), key, max(0, round(seconds * 1000)), kind, json.dumps(data).encode())

    def cancel(self, key: str) -> None:
        host.cancel(self._of(), key)

    def _of(self) -> Any:
        return getattr(host.Owner, self._owner)


class Schedule:
    def __init__(self) -> None:
        #: Timers of the client of the event: they go with it.
        self.client = Timers("CLIENT")
        #: Timers of the app.
        self.app = Timers("APP")
        self._listeners: dict[str, list[Callable[..., Any]]] = {}

    def on(self, kind: str) -> Callable[[Listener], Listener]:
        """Calls the function as `f(data, due)` for each timer of this kind that is due; `due` has `key`, `at`, `missed`, `client`."""

        def add(listener: Listener) -> Listener:
            self._listeners.setdefault(kind, []).append(listener)
            return listener

        return add

    def _due(self, extra: dict[str, str], kind: str, data: bytes, client: Client | None, call: Callable[..., Any]) -> bool:
        """Whether the event is that of a timer."""
        if "timer-key" not in extra:
            return False
        due = Due(extra["timer-key"], int(extra["timer-due-ms"]) / 1000, int(extra["timer-missed"]), client)
        for listener in self._listeners.get(kind, ()):
            call(listener, json.loads(data), due)
        return True


schedule = Schedule()
