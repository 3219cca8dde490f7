"""Tests a program without a host, in any Python and any test runner: deliver events, check effects.

    import app  # the program, which registers its listeners
    from plugnode.testing import connect

    def test_say_reaches_other_clients():
        ada, bob = connect(auth={"name": "ada"}), connect()
        effects = ada.emit("say", "hello")  # [{"type": "emit", "to": {…}, "event": "said", "args": […]}]
        assert bob.take() == [("said", ada.id, "hello")]
        assert ada.ask("who") == (["ada"],)  # the arguments of its acknowledgement

If a listener raises, the call raises the same exception, and the event has no effects. Timers do not run: a test delivers their events
with `fire` and `TestClient.fire`.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from . import _app, _test_host
from . import config as config
from ._payload import encode

__all__ = ["Refused", "TestClient", "ask", "config", "connect", "custom", "fire", "reset", "stored", "timers"]

Effect = dict[str, Any]
_world = _test_host.world
_numbers = itertools.count(1)


class Refused(Exception):
    """The handler refused the client. `data` is the data of the refusal."""

    def __init__(self, message: str, data: Any) -> None:
        super().__init__(message)
        self.data = data


class TestClient:
    """A client of the program under test."""

    __test__ = False

    def __init__(self, id: str, namespace: str) -> None:
        self.id = id
        self.namespace = namespace
        #: The events that the client received, oldest first: name and arguments.
        self.received: list[tuple[Any, ...]] = []
        self.rooms: set[str] = set()
        self.attributes: dict[str, Any] = {}
        #: The effects of its connection event.
        self.effects: list[Effect] = []
        self._answers: dict[str, Callable[..., Any]] = {}

    @property
    def is_connected(self) -> bool:
        return self.id in _world.clients

    def emit(self, event: str, *args: Any) -> list[Effect]:
        """Emits an event and returns its effects."""
        return self._message(event, args, None)

    def ask(self, event: str, *args: Any) -> tuple[Any, ...] | None:
        """Emits an event and returns the arguments of its acknowledgement; None if the handler did not answer."""
        return _answer(self._message(event, args, "ack"))

    def answer(self, event: str, answer: Callable[..., Any]) -> "TestClient":
        """Sets how the client answers this event when the program asks for an acknowledgement; a tuple is several values."""
        self._answers[event] = answer
        return self

    def take(self) -> list[tuple[Any, ...]]:
        """Removes and returns the events in `received`."""
        taken, self.received = self.received, []
        return taken

    @property
    def timers(self) -> list[str]:
        """The keys of the client's timers, sorted."""
        return _timers_of(self)

    def fire(self, key: str, *, missed: int = 0) -> list[Effect]:
        """Delivers the event of the client's timer, like `fire` of the module."""
        return _fire(self, self.namespace, key, missed)

    def disconnect(self, reason: str = "client namespace disconnect") -> list[Effect]:
        return _disconnect(self, reason)

    def _message(self, event: str, args: tuple[Any, ...], ack: Any) -> list[Effect]:
        if not self.is_connected:
            raise RuntimeError("this client is not connected")
        message = _test_host.make("Message", event, encode(args), ack)
        return _handle(self, _test_host.make("Event_Message", (_record_of(self), message)))


def connect(
    *,
    id: str | None = None,
    namespace: str = "/",
    auth: Any = None,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    address: str = "127.0.0.1",
) -> TestClient:
    """Connects a client. Raises `Refused` if the handler refuses it."""
    client = TestClient(id or f"client-{next(_numbers)}".ljust(20, "-"), namespace)
    handshake = _test_host.make(
        "Handshake",
        None if auth is None else json.dumps(auth),
        urlencode(query or {}),
        list((headers or {}).items()),
        address,
        "websocket",
        False,
    )
    _world.clients[client.id] = client
    try:
        client.effects = _handle(client, _test_host.make("Event_Connection", (_record_of(client), handshake)))
    except BaseException:
        _world.clients.pop(client.id, None)
        raise
    for effect in client.effects:
        if effect["type"] == "refuse":
            _world.clients.pop(client.id, None)
            raise Refused(effect["message"], effect["data"])
    return client


def custom(kind: str, data: Any, content_type: str = "application/json", *, namespace: str = "/") -> list[Effect]:
    """Delivers an event that no client sent, as the server API does. `data` that is not bytes is written as JSON."""
    content = bytes(data) if isinstance(data, (bytes, bytearray)) else json.dumps(data).encode()
    event = _test_host.make("Custom", kind, None, content, content_type)
    return _handle(None, _test_host.make("Event_Custom", event), [("ack-id", f"ack-{next(_numbers)}")], namespace)


def ask(kind: str, data: Any = None, *, namespace: str = "/") -> tuple[Any, ...] | None:
    """Delivers such an event, with JSON, and returns the arguments of its acknowledgement; None if the program did not answer."""
    return _answer(custom(kind, data, namespace=namespace))


def fire(key: str, *, missed: int = 0, namespace: str = "/") -> list[Effect]:
    """Delivers the event of a timer of the app, also before the timer is due. A one-shot timer is then gone. `missed` is the number
    of periods without an event before this one. Raises `LookupError` if there is no such timer."""
    return _fire(None, namespace, key, missed)


def timers(namespace: str = "/") -> list[str]:
    """The keys of the app's timers, sorted."""
    return _timers_of(namespace)


def stored(key: str, bucket: str = "default") -> Any:
    """The value of a key, parsed from JSON."""
    value = _world.buckets.get(bucket, {}).get(key)
    return None if value is None else _value_of(value)


def reset() -> None:
    """Removes all clients, stored values and timers. Variables of the program stay."""
    _world.clients.clear()
    _world.buckets.clear()
    _world.timers.clear()


def _answer(effects: list[Effect]) -> tuple[Any, ...] | None:
    acks = [effect["args"] for effect in effects if effect["type"] == "ack"]
    return tuple(acks[0]) if acks else None


def _record_of(client: TestClient) -> Any:
    return _test_host.make("Client", client.id, "test", client.namespace, json.dumps(client.attributes))


def _value_of(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _timers_of(owner: TestClient | str) -> list[str]:
    return sorted(key for of, key in _world.timers if of == owner)


def _fire(client: TestClient | None, namespace: str, key: str, missed: int) -> list[Effect]:
    owner = client or namespace
    timer = _world.timers.pop((owner, key), None)
    if timer is None:
        of = "the app" if client is None else f"client {client.id}"
        raise LookupError(f"{of} has no timer {key!r}: its timers are {_timers_of(owner)}")
    if timer.period_ms is not None:
        _world.timers[owner, key] = dataclasses.replace(timer, due_ms=timer.due_ms + (missed + 1) * timer.period_ms)
    of_client = None if client is None else _record_of(client)
    event = _test_host.make("Custom", timer.kind, of_client, json.dumps(timer.data).encode(), None)
    extra = [("timer-key", key), ("timer-due-ms", str(timer.due_ms)), ("timer-missed", str(missed))]
    return _handle(client, _test_host.make("Event_Custom", event), extra, namespace)


def _handle(
    client: TestClient | None, event: Any, extra: list[tuple[str, str]] | None = None, namespace: str = "/"
) -> list[Effect]:
    """Handles one event, applies its effects and returns them. `namespace` is that of an event without a client."""
    namespace = namespace if client is None else client.namespace
    _world.take()
    kind = type(event).__name__.removeprefix("Event_").lower()
    _world.enter(client, namespace, kind)
    now = int(time.time() * 1000)
    context = _test_host.make("Context", f"event-{next(_numbers)}", 1, now, 1000, "test", 0, "test", None, extra or [])
    try:
        _app.handle(event, context)
    except BaseException:
        _world.take()
        _world.enter(None, "/", None)
        raise
    commands, writes = _world.take()
    _world.commit(writes)
    effects = list(commands)
    for bucket, key, value in writes:
        effects.append(
            {"type": "delete", "bucket": bucket, "key": key}
            if value is None
            else {"type": "set", "bucket": bucket, "key": key, "value": _value_of(value)}
        )
    for command in commands:
        # Applying a command may handle another event.
        _world.enter(client, namespace, kind)
        effects.extend(_apply(command))
    _world.enter(None, "/", None)
    return effects


def _apply(command: Effect) -> list[Effect]:
    """Applies a command. Returns the effects of the events that follow from it."""
    to = _world.audience(command["to"]) if "to" in command else []
    more: list[Effect] = []
    match command["type"]:
        case "emit":
            for one in to:
                one.received.append((command["event"], *command["args"]))
        case "join":
            for one in to:
                one.rooms.update(command["rooms"])
        case "leave":
            for one in to:
                one.rooms.difference_update(command["rooms"])
        case "attributes" if command["client"] in _world.clients:
            attributes = _world.clients[command["client"]].attributes
            for name, value in command["patch"].items():
                if value is None:
                    attributes.pop(name, None)
                else:
                    attributes[name] = value
        case "timer":
            owner = _world.timer_owner(command["of"])
            period_ms = command.get("every")
            due_ms = command["at"] if period_ms is None else int(time.time() * 1000) + period_ms
            if owner is not None:
                _world.timers[owner, command["key"]] = _test_host.Timer(due_ms, period_ms, command["kind"], command["data"])
        case "cancel":
            _world.timers.pop((_world.timer_owner(command["of"]), command["key"]), None)
        case "disconnect":
            for one in to:
                more += _disconnect(one, "server namespace disconnect")
        case "ask":
            for one in to:
                answer = one._answers.get(command["event"])
                returned = None if answer is None else answer(*command["args"])
                values = returned if isinstance(returned, tuple) else (returned,)
                payload = None if answer is None else encode(values)
                reply = _test_host.make("Reply", command["reply"].encode(), payload)
                more += _handle(one, _test_host.make("Event_Reply", (_record_of(one), reply)))
    return more


def _disconnect(client: TestClient, reason: str) -> list[Effect]:
    if _world.clients.pop(client.id, None) is None:
        return []
    for key in _timers_of(client):
        del _world.timers[client, key]
    why = _test_host.make("DisconnectReason_Other", reason)
    rooms = json.dumps(sorted(client.rooms))
    return _handle(client, _test_host.make("Event_Disconnect", (_record_of(client), why)), [("channels", rooms)])
