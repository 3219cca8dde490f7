"""The emitter: clients of a namespace, and what can be done with them."""

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Self, TypeVar

from ._http import EmitterError, Http
from ._msgpack import array_head, encode, has_bytes

#: The clients that an answer may describe.
_MAX_FOUND = 10_000
#: Calls in a request, and their bytes.
_MAX_BATCH = 100
_MAX_BATCH_BYTES = 256 * 1024

Answer = TypeVar("Answer")

_JSON = "application/json"
_MSGPACK = "application/msgpack"


@dataclass(frozen=True)
class Done:
    """A call was carried out."""

    #: The id of the event that did it; None if it was accepted, will be carried out once, and was not in time for the answer.
    event: str | None
    #: Whether an earlier attempt had done it.
    repeated: bool


@dataclass(frozen=True)
class Handled(Done):
    """A handler has handled an event."""

    #: The arguments of its acknowledgement; None without one.
    args: list[Any] | None


@dataclass(frozen=True)
class _Call:
    operation: str
    type: str
    body: bytes


@dataclass(frozen=True)
class _Selection:
    rooms: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    volatile: bool = False


class _Clients(Generic[Answer]):
    """Clients of a namespace. What a method returns depends on whether its call is made at once or part of a batch."""

    def __init__(self, make: Callable[[_Call], Answer], namespace: str, selection: _Selection) -> None:
        self._make = make
        self._namespace = namespace
        self._selection = selection

    def _with(self, selection: _Selection) -> Self:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._selection = selection
        return copy

    def to(self, *rooms: str) -> Self:
        """Selects the clients in these rooms, or with these ids."""
        before = self._selection
        return self._with(replace(before, rooms=before.rooms + rooms, clients=before.clients + rooms))

    def client(self, id: str) -> Self:
        """Selects one client by its id. With no other selection, calls are in order with what the client sends."""
        return self._with(replace(self._selection, clients=(*self._selection.clients, id)))

    def except_(self, *rooms: str) -> Self:
        """Leaves out the clients in these rooms, or with these ids."""
        return self._with(replace(self._selection, except_=self._selection.except_ + rooms))

    @property
    def volatile(self) -> Self:
        """Skips clients that are not ready to receive."""
        return self._with(replace(self._selection, volatile=True))

    def emit(self, event: str, *args: Any) -> Answer:
        """Emits an event. Arguments are JSON values and bytes."""
        return self._make(self._call("publish", event=event, args=args, volatile=self._selection.volatile))

    def sockets_join(self, *rooms: str) -> Answer:
        return self._make(self._call("join", channels=rooms))

    def sockets_leave(self, *rooms: str) -> Answer:
        return self._make(self._call("leave", channels=rooms))

    def disconnect_sockets(self, close: bool = False) -> Answer:
        """Disconnects the clients. With `close`, closes the whole connection, after which a JavaScript client reconnects."""
        return self._make(self._call("disconnect", close=close))

    def _call(self, operation: str, **fields: Any) -> _Call:
        chosen = self._selection
        is_narrowed = chosen.rooms or chosen.clients
        body: dict[str, Any] = {
            "namespace": self._namespace,
            "except": {"to": chosen.except_, "clients": chosen.except_},
            **({"to": chosen.rooms, "clients": chosen.clients} if is_narrowed else {"all": True}),
            **fields,
        }
        return _Call(operation, *_encoded(body))


class Broadcast(_Clients[Done]):
    """Clients of a namespace. Each call returns when it was carried out, and raises `EmitterError` if it was not."""

    def __init__(self, http: Http, namespace: str, selection: _Selection) -> None:
        super().__init__(lambda call: _done(_post(http, call)), namespace, selection)
        self._http = http

    def find(self, *, most: int = 1_000, timeout: float = 2.0) -> "Found":
        """Counts the clients and describes up to `most`, as far as io-nodes answer within `timeout` seconds."""
        call = self._call("find", most=most, **{"timeout-ms": round(timeout * 1000)})
        found = _post(self._http, call, timeout)
        sockets = [RemoteSocket._of(self._http, self._namespace, client) for client in found["clients"]]
        return Found(found["count"], sockets, found.get("silent", []))

    def fetch_sockets(self, *, timeout: float = 2.0) -> "list[RemoteSocket]":
        """The clients, 10,000 at most. Raises if there are more, or if an io-node does not answer in time."""
        found = self.find(most=_MAX_FOUND, timeout=timeout)
        if found.silent:
            raise EmitterError(f"io-nodes {', '.join(found.silent)} did not answer in time: fetch again, or use find")
        if found.count > len(found.sockets):
            raise EmitterError(f"{found.count} clients are more than {_MAX_FOUND}: select fewer, or use find")
        return found.sockets


@dataclass(frozen=True)
class RemoteSocket:
    """A client that was found."""

    id: str
    rooms: frozenset[str]
    #: What handlers have stored with the client.
    attributes: dict[str, Any]
    io_node: str
    #: The client, to emit to.
    socket: Broadcast = field(repr=False, compare=False)

    @classmethod
    def _of(cls, http: Http, namespace: str, client: dict[str, Any]) -> "RemoteSocket":
        id = client["id"]
        socket = Broadcast(http, namespace, _Selection(clients=(id,)))
        return cls(id, frozenset([id, *client["channels"]]), client["attributes"], client["io-node"], socket)


@dataclass(frozen=True)
class Found:
    """The clients that were found."""

    #: The number of matching clients.
    count: int
    #: Up to `most` of them.
    sockets: list[RemoteSocket]
    #: The io-nodes that did not answer in time, whose clients are missing.
    silent: list[str]


@dataclass(frozen=True)
class Present:
    """A client in a room whose presence is kept."""

    id: str
    #: When it joined, in seconds since 1970.
    since: float
    #: Its attributes when it joined; None if they were too large to be kept.
    attributes: dict[str, Any] | None


class Batch(_Clients[None]):
    """Calls that are made at the end of a `with` block, in their order and in few requests. A request, of up to 100 calls of the same
    kind, is carried out as a whole. If the block raises, none is made."""

    def __init__(self, http: Http) -> None:
        self._calls: list[_Call] = []
        self._http = http
        super().__init__(self._calls.append, "/", _Selection())

    def of(self, namespace: str) -> "Batch":
        """All clients of another namespace, in the same batch."""
        copy = self._with(_Selection())
        copy._namespace = _slashed(namespace)
        return copy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        calls = list(self._calls) if error is None else []
        self._calls.clear()
        while calls:
            taken = _take(calls)
            if len(taken) == 1:
                _post(self._http, taken[0])
            else:
                bodies = [call.body for call in taken]
                joined = b"[%b]" % b",".join(bodies) if taken[0].type == _JSON else array_head(len(bodies)) + b"".join(bodies)
                _post(self._http, replace(taken[0], body=joined))


class Emitter(Broadcast):
    """All clients of the namespace `/`.

    `url` is the address of the server API, such as `http://127.0.0.1:9090`; with several nodes, a call that fails is repeated at the next.
    `key` is the secret of an `[[api.key]]`. `timeout` says for how long a call is repeated, in seconds. Threads may share an emitter: each
    has its own connection."""

    def __init__(self, url: str | Sequence[str], key: str, *, timeout: float = 30.0) -> None:
        super().__init__(Http([url] if isinstance(url, str) else url, key, timeout), "/", _Selection())

    def of(self, namespace: str) -> Broadcast:
        """All clients of another namespace."""
        return Broadcast(self._http, _slashed(namespace), _Selection())

    def batch(self) -> Batch:
        """Collects calls: `with emitter.batch() as batch: batch.to("room").emit("news")`."""
        return Batch(self._http)

    def presence(self, namespace: str, room: str) -> list[Present]:
        """Reads who is in a room whose presence is kept."""
        # A page may repeat what an earlier one had.
        members: dict[str, Present] = {}
        cursor: int | None = None
        while True:
            body = {"namespace": _slashed(namespace), "channel": room, "cursor": cursor}
            page = _post(self._http, _Call("presence", *_encoded(body)))
            for member in page["members"]:
                members[member["id"]] = Present(member["id"], member["since-ms"] / 1000, member["attributes"])
            cursor = page["next"]
            if cursor is None:
                return list(members.values())

    def event(
        self,
        namespace: str,
        kind: str,
        data: Any = None,
        *,
        wait: Literal["accepted", "handled", "acknowledged"] = "handled",
        timeout: float = 10.0,
        order: str | None = None,
        idempotency_key: str | None = None,
    ) -> Handled:
        """Gives a custom event to the handler of a namespace's app, and returns its acknowledgement. Waits up to `timeout` seconds, 60
        at most. Events with the same `order` are handled in order, one at a time; those with the same `idempotency_key` take effect once
        within a day. By default, each has a new one."""
        body = {
            "namespace": _slashed(namespace),
            "kind": kind,
            "data": data,
            "wait": wait,
            "timeout-ms": round(timeout * 1000),
            "order": order,
        }
        answer = _post(self._http, _Call("event", *_encoded(body)), timeout, idempotency_key)
        args = answer.get("args")
        return Handled(answer.get("event"), answer.get("repeated", False), _restored(args, answer.get("attachments", [])))

    def close(self) -> None:
        """Closes the connection of this thread."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def _post(http: Http, call: _Call, wait: float | None = None, idempotency_key: str | None = None) -> dict[str, Any]:
    return http.post(call.operation, call.type, call.body, idempotency_key or str(uuid.uuid4()), wait)


def _take(calls: list[_Call]) -> list[_Call]:
    """Removes the first calls that can be sent together."""
    first, size, count = calls[0], 0, 0
    for call in calls[:_MAX_BATCH]:
        size += len(call.body)
        if (call.operation, call.type) != (first.operation, first.type) or count and size > _MAX_BATCH_BYTES:
            break
        count += 1
    taken, calls[:] = calls[:count], calls[count:]
    return taken


def _encoded(body: dict[str, Any]) -> tuple[str, bytes]:
    """Media type and bytes of a body, in JSON if that can hold it."""
    if has_bytes(body.get("args", body.get("data"))):
        return _MSGPACK, encode(body)
    return _JSON, json.dumps(body, allow_nan=False).encode()


def _done(answer: dict[str, Any]) -> Done:
    return Done(answer.get("event"), answer.get("repeated", False))


def _slashed(namespace: str) -> str:
    return namespace if namespace.startswith("/") else f"/{namespace}"


def _restored(value: Any, attachments: list[str]) -> Any:
    """Puts the binary values of an answer in their places."""
    if not attachments:
        return value
    if isinstance(value, list):
        return [_restored(item, attachments) for item in value]
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return base64.b64decode(attachments[value["num"]])
        return {key: _restored(item, attachments) for key, item in value.items()}
    return value
