"""Listeners, and the way of an event to them."""

import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

from componentize_py_types import Err
from wit_world.imports import outbox, types

from . import _store
from ._clients import Client
from ._payload import decode, encode
from ._schedule import schedule

Listener = TypeVar("Listener", bound=Callable[..., Any])

#: Events that no client can send.
OURS = frozenset({"connection", "disconnect", "no-client"})

_REASONS = {
    types.DisconnectReason_ClientDisconnect: "client namespace disconnect",
    types.DisconnectReason_ServerDisconnect: "server namespace disconnect",
    types.DisconnectReason_TransportClose: "transport close",
    types.DisconnectReason_TransportError: "transport error",
    types.DisconnectReason_PingTimeout: "ping timeout",
    types.DisconnectReason_ParseError: "parse error",
    types.DisconnectReason_ServerShutdown: "server shutting down",
    types.DisconnectReason_NodeLost: "node lost",
}


class Retry(Exception):
    """Raised, it has the event handled again a little later, as often as the configuration allows."""


class Refuse(Exception):
    """Raised by a listener of `connection`, it refuses the client: `Refuse("not you", {"code": 7})`. The app has to have
    `admission = true`; without it the client is let in and disconnected."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class App:
    """What the program listens to."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., Any]]] = {}
        self._replies: dict[str, Callable[..., Any]] = {}
        self._customs: dict[str, list[Callable[..., Any]]] = {}

    def on(self, event: str) -> Callable[[Listener], Listener]:
        """Calls the function as `f(client, *args)` for each such event of a client; what it returns answers the acknowledgement.

        `connection` comes with how the client connected, a dictionary of `auth`, `query`, `headers`, `address`; `disconnect` with
        the reason, and the client has the `rooms` that it was in; `no-client`, of a client whose connection this instance has not seen, before its event."""

        def add(listener: Listener) -> Listener:
            self._listeners.setdefault(event, []).append(listener)
            return listener

        return add

    def on_reply(self, name: str) -> Callable[[Listener], Listener]:
        """Calls the function as `f(client, *answer)` for an answer to `client.ask(…, reply=name)`, as `f(client, None)` when
        there was none in time."""

        def add(listener: Listener) -> Listener:
            self._replies[name] = listener
            return listener

        return add

    def on_custom(self, kind: str) -> Callable[[Listener], Listener]:
        """Calls the function as `f(data, client)` for an event that no client sent. JSON is read; else `data` is bytes."""

        def add(listener: Listener) -> Listener:
            self._customs.setdefault(kind, []).append(listener)
            return listener

        return add

    def _call(self, event: str, *args: Any) -> Any:
        answer = None
        for listener in self._listeners.get(event, ()):
            returned = _returned(listener, *args)
            answer = returned if returned is not None else answer
        return answer

    def _handle(self, event: types.Event) -> None:
        match event:
            case types.Event_Connection((of, handshake)):
                self._connection(_client(of), handshake)
            case types.Event_Message((of, message)):
                if message.event in OURS:
                    return
                answer = self._call(message.event, _client(of), *decode(message.args))
                if message.ack is not None and answer is not None:
                    values = answer if isinstance(answer, tuple) else (answer,)
                    outbox.ack(message.ack, encode(values))
            case types.Event_Disconnect((of, reason)):
                words = reason.value if isinstance(reason, types.DisconnectReason_Other) else _REASONS[type(reason)]
                self._call("disconnect", Client(of.id, of.namespace, of.attributes, _rooms()), words)
            case types.Event_NoClient(of):
                self._call("no-client", _client(of))
            case types.Event_Reply((of, reply)):
                listener = self._replies.get(reply.token.decode("utf-8", "replace"))
                if listener is not None:
                    _returned(listener, _client(of), *([None] if reply.answer is None else decode(reply.answer)))
            case types.Event_Custom(custom):
                of = None if custom.client is None else _client(custom.client)
                if schedule._due(dict(context().extra), custom.kind, custom.data, of, _returned):
                    return
                is_json = custom.content_type == "application/json"
                data = json.loads(custom.data) if is_json else custom.data
                for listener in self._customs.get(custom.kind, ()):
                    _returned(listener, data, of)

    def _connection(self, client: Client, handshake: types.Handshake) -> None:
        how = {
            "auth": None if handshake.auth is None else json.loads(handshake.auth),
            "query": handshake.query,
            "headers": dict(handshake.headers),
            "address": handshake.remote_addr,
            "transport": handshake.transport,
            "recovered": handshake.recovered,
        }
        try:
            self._call("connection", client, how)
        except Refuse as refusal:
            data = None if refusal.data is None else json.dumps(refusal.data)
            try:
                outbox.refuse(str(refusal), data)
            except Err:
                # The app takes everybody in.
                client.disconnect()


def _client(of: types.Client) -> Client:
    return Client(of.id, of.namespace, of.attributes)


def _rooms() -> frozenset[str] | None:
    rooms = dict(context().extra).get("channels")
    return None if rooms is None else frozenset(json.loads(rooms))


def _returned(listener: Callable[..., Any], *args: Any) -> Any:
    returned = listener(*args)
    if not inspect.iscoroutine(returned):
        return returned
    try:
        returned.send(None)
    except StopIteration as end:
        return end.value
    returned.close()
    raise RuntimeError("a listener awaits something that is not there: nothing but other coroutines can be awaited")


_context: types.Context | None = None


def context() -> types.Context:
    """What the host knows about this event: `id`, `attempt`, `received_at_ms`, `instance`, `node`, `release`."""
    if _context is None:
        raise RuntimeError("no event is being handled")
    return _context


def handle(event: types.Event, of: types.Context) -> None:
    """One event, from beginning to end."""
    global _context
    _context = of
    _store.forget()
    try:
        app._handle(event)
        _store.keep()
    finally:
        _context = None
        _store.forget()


app = App()
