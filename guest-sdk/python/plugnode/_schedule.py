"""Durable timers: events that the host delivers at a later time."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from wit_world.imports import schedule as host

from ._clients import Client

@dataclass(frozen=True)
class Due:
    """Facts about a timer that is due."""

    key: str
    #: When it was due, in seconds since 1970.
    at: float
    #: For a periodic timer: the number of earlier periods without an event, because no event could be handled then.
    missed: int
    #: The client that owns the timer; None if the app owns it.
    client: Client | None


TimerListener = TypeVar("TimerListener", bound=Callable[[Any, Due], Any])


class Timers:
    """Timers of the event's client, or of the app. Setting and cancelling them are effects of the event."""

    def __init__(self, owner: host.Owner) -> None:
        self._owner = owner

    def at(self, key: str, when: datetime | float, kind: str, data: Any = None) -> None:
        """Sets a one-shot timer, at a datetime or in seconds since 1970. A time in the past is due at once. Setting a key
        again replaces its timer."""
        seconds = when.timestamp() if isinstance(when, datetime) else when
        host.at(self._owner, key, max(0, round(seconds * 1000)), kind, json.dumps(data).encode())

    def after(self, key: str, seconds: float, kind: str, data: Any = None) -> None:
        """Sets a one-shot timer that is due after this many seconds."""
        self.at(key, time.time() + seconds, kind, data)

    def every(self, key: str, seconds: float, kind: str, data: Any = None) -> None:
        """Sets a periodic timer, first due after one period. The period is at least 0.05 seconds."""
        host.every(self._owner, key, max(0, round(seconds * 1000)), kind, json.dumps(data).encode())

    def cancel(self, key: str) -> None:
        """Cancels a timer. Does nothing if there is none."""
        host.cancel(self._owner, key)


class Schedule:
    def __init__(self) -> None:
        #: Timers of the event's client. Its disconnect cancels them.
        self.client = Timers(host.Owner.CLIENT)
        #: Timers of the app.
        self.app = Timers(host.Owner.APP)
        self._listeners: dict[str, list[Callable[..., Any]]] = {}

    def on(self, kind: str) -> Callable[[TimerListener], TimerListener]:
        """Calls the function as `f(data, due)` for each due timer of this kind; `due` has `key`, `at`, `missed`, `client`."""

        def add(listener: TimerListener) -> TimerListener:
            self._listeners.setdefault(kind, []).append(listener)
            return listener

        return add

    def _dispatch(self, extra: dict[str, str], kind: str, data: bytes, client: Client | None, call: Callable[..., Any]) -> bool:
        """Calls the listeners if the event comes from a timer. Returns whether it does."""
        if "timer-key" not in extra:
            return False
        due = Due(extra["timer-key"], int(extra["timer-due-ms"]) / 1000, int(extra["timer-missed"]), client)
        for listener in self._listeners.get(kind, ()):
            call(listener, json.loads(data), due)
        return True


schedule = Schedule()
