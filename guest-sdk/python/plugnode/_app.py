"""Listeners, and the dispatch of events to them."""

import inspect
import json
from collections.abc import Callable
from types import CodeType
from typing import Any, Concatenate, Protocol, TypedDict, TypeVar

from componentize_py_types import Err
from wit_world.imports import outbox, types

from . import _store
from ._clients import Client
from ._payload import decode, encode
from ._presence import presence
from ._schedule import schedule

# Type checkers accept listeners with and without annotations, but not without the first parameters.
ClientListener = TypeVar("ClientListener", bound=Callable[Concatenate[Client, ...], Any])
CustomListener = TypeVar("CustomListener", bound=Callable[[Any, Client | None], Any])

#: Names of events that clients cannot emit.
RESERVED = frozenset({"connection", "disconnect", "no-client"})

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
    """Raise this to have the event retried after a pause, up to the number of attempts in the configuration."""


class Refuse(Exception):
    """Raise this in a listener of `connection` to refuse the client: `Refuse("not you", {"code": 7})`. Without
    `admission = true` in the app's configuration, the client is connected and then disconnected."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class Handshake(TypedDict):
    """How a client connected."""

    auth: Any
    query: str
    headers: dict[str, str]
    address: str | None
    #: `websocket` or `polling`.
    transport: str
    #: Whether the client continues an earlier connection.
    recovered: bool


class Context(Protocol):
    """Facts about the current event."""

    id: str
    #: 1 for the first.
    attempt: int
    received_at_ms: int
    #: The time limit of the event.
    budget_ms: int
    node: str
    instance: int
    release: str
    traceparent: str | None


class App:
    """The listeners of the program."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., Any]]] = {}
        self._replies: dict[str, Callable[..., Any]] = {}
        self._customs: dict[str, list[Callable[..., Any]]] = {}

    def on(self, event: str) -> Callable[[ClientListener], ClientListener]:
        """Calls the function as `f(client, *args)` for each such event. Its return value answers the acknowledgement; a tuple
        is several arguments.

        `connection` has one argument, a `Handshake`.
        `disconnect` has the reason; `client.rooms` are the rooms that the client was in. `no-client` precedes an event of a
        client whose connection this instance did not handle."""

        def add(listener: ClientListener) -> ClientListener:
            self._listeners.setdefault(event, []).append(listener)
            return listener

        return add

    def on_reply(self, name: str) -> Callable[[ClientListener], ClientListener]:
        """Calls the function as `f(client, *answer)` for an answer to `client.ask(…, reply=name)`, or as `f(client, None)` if
        the client did not answer in time."""

        def add(listener: ClientListener) -> ClientListener:
            self._replies[name] = listener
            return listener

        return add

    def on_custom(self, kind: str) -> Callable[[CustomListener], CustomListener]:
        """Calls the function as `f(data, client)` for an event of this kind that no client emitted, such as those of the server API,
        which have no client. `data` is parsed if it is JSON, otherwise bytes. What it returns answers a caller of the server API, as
        with events of clients; `ack_id` and `acknowledge` answer in a later event."""

        def add(listener: CustomListener) -> CustomListener:
            self._customs.setdefault(kind, []).append(listener)
            return listener

        return add

    def _call(self, event: str, *args: Any) -> Any:
        answer = None
        for listener in self._listeners.get(event, ()):
            returned = _run(listener, *args)
            answer = returned if returned is not None else answer
        return answer

    def _handle(self, event: types.Event) -> None:
        match event:
            case types.Event_Connection((of, handshake)):
                self._connection(_client(of), handshake)
            case types.Event_Message((of, message)):
                if message.event in RESERVED:
                    return
                answer = self._call(message.event, _client(of), *decode(message.args))
                if message.ack is not None and answer is not None:
                    acknowledge(message.ack, *_values(answer))
            case types.Event_Disconnect((of, reason)):
                text = reason.value if isinstance(reason, types.DisconnectReason_Other) else _REASONS[type(reason)]
                self._call("disconnect", Client(of.id, of.namespace, of.attributes, _rooms()), text)
            case types.Event_NoClient(of):
                self._call("no-client", _client(of))
            case types.Event_Reply((of, reply)):
                listener = self._replies.get(reply.token.decode("utf-8", "replace"))
                if listener is not None:
                    _run(listener, _client(of), *([None] if reply.answer is None else decode(reply.answer)))
            case types.Event_Custom(custom):
                client = None if custom.client is None else _client(custom.client)
                if presence._dispatch(custom.kind, custom.data, _run):
                    return
                if schedule._dispatch(_extra(), custom.kind, custom.data, client, _run):
                    return
                is_json = custom.content_type == "application/json"
                data = json.loads(custom.data) if is_json else custom.data
                answer = None
                for listener in self._customs.get(custom.kind, ()):
                    returned = _run(listener, data, client)
                    answer = returned if returned is not None else answer
                ack = ack_id()
                if ack is not None and answer is not None:
                    acknowledge(ack, *_values(answer))

    def _connection(self, client: Client, handshake: types.Handshake) -> None:
        info = Handshake(
            auth=None if handshake.auth is None else json.loads(handshake.auth),
            query=handshake.query,
            headers=dict(handshake.headers),
            address=handshake.remote_addr,
            transport=handshake.transport,
            recovered=handshake.recovered,
        )
        try:
            self._call("connection", client, info)
        except Refuse as refusal:
            data = None if refusal.data is None else json.dumps(refusal.data, allow_nan=False)
            try:
                outbox.refuse(str(refusal), data)
            except Err:
                # The app has no admission control.
                client.disconnect()


def ack_id() -> str | None:
    """The id by which `acknowledge` answers the current event, if it is one of the server API."""
    return _extra().get("ack-id")


def acknowledge(ack_id: str, *args: Any) -> None:
    """Answers the event that had this `ack_id`, also in a later event. Later answers than the first are dropped."""
    outbox.ack(ack_id, encode(args))


def send_custom(kind: str, data: Any = None) -> None:
    """Sends a message, as JSON or as bytes, to the webhooks that pass on this kind, and to the program that embeds the io-nodes, if
    one does. It is an effect of the event."""
    outbox.custom(None, kind, data if isinstance(data, bytes) else json.dumps(data).encode())


def _values(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _client(of: types.Client) -> Client:
    return Client(of.id, of.namespace, of.attributes)


def _rooms() -> frozenset[str] | None:
    rooms = _extra().get("channels")
    return None if rooms is None else frozenset(json.loads(rooms))


#: The listener that was called last in this event.
_listener: Callable[..., Any] | None = None


def code_of_listener() -> CodeType | None:
    """Where the listener that was called last is defined, for errors that are not raised within it."""
    return getattr(_listener and inspect.unwrap(_listener), "__code__", None)


def _run(listener: Callable[..., Any], *args: Any) -> Any:
    global _listener
    _listener = listener
    returned = listener(*args)
    if not inspect.iscoroutine(returned):
        return returned
    try:
        returned.send(None)
    except StopIteration as end:
        return end.value
    returned.close()
    raise RuntimeError("a listener awaited something that never completes: it can await only coroutines, and there is no event loop")


_context: types.Context | None = None


def context() -> Context:
    """Facts about the current event."""
    if _context is None:
        raise RuntimeError("no event is being handled")
    return _context


def _extra() -> dict[str, str]:
    return {} if _context is None else dict(_context.extra)


def handle(event: types.Event, of: types.Context) -> None:
    """Handles one event."""
    global _context, _listener
    _context = of
    _listener = None
    _store.discard_states()
    try:
        app._handle(event)
        _store.save_states()
    finally:
        _context = None
        _store.discard_states()


app = App()
