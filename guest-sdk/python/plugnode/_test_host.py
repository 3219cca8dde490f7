"""The host of `plugnode.testing`: implements the contract's imports outside of a component. Records the commands and writes of an
event. Clients and keys exist only in this process."""

import enum
import json
import sys
import types as python_types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Err(Exception):
    """The error of an import of the contract."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


# ---- The contract's records and variants, with the names of componentize-py ----

Record = type[Any]


def _records(**fields: str) -> dict[str, Record]:
    made: dict[str, Record] = {}
    for name, names in fields.items():
        namespace = {"__annotations__": dict.fromkeys(names.split(), Any)}
        made[name] = dataclass(type(name, (), namespace))
    return made


_TYPES = _records(
    Payload="json attachments",
    Client="id io_node namespace attributes",
    Handshake="auth query headers remote_addr transport recovered",
    Message="event args ack",
    Reply="token answer",
    Custom="kind client data content_type",
    Context="id attempt received_at_ms budget_ms node instance release traceparent extra",
    Event_Connection="value",
    Event_Message="value",
    Event_Disconnect="value",
    Event_NoClient="value",
    Event_Reply="value",
    Event_Custom="value",
    DisconnectReason_Other="value",
    **dict.fromkeys(
        (
            f"DisconnectReason_{name}"
            for name in (
                "ClientDisconnect",
                "ServerDisconnect",
                "TransportClose",
                "TransportError",
                "PingTimeout",
                "ParseError",
                "ServerShutdown",
                "NodeLost",
            )
        ),
        "",
    ),
)
_OUTBOX = _records(
    Selection="clients channels", Audience="namespace to except_", Scope_All="", Scope_Only="value"
)


class Delivery(enum.Flag):
    VOLATILE = enum.auto()
    LOCAL = enum.auto()


def make(name: str, *values: Any) -> Any:
    """Creates a record or variant of the contract."""
    return _TYPES[name](*values)


# ---- The effects of an event ----

Write = tuple[str, str, bytes | None]


@dataclass
class Timer:
    due_ms: int
    #: None if the timer is one-shot.
    period_ms: int | None
    kind: str
    #: A JSON value.
    data: Any


class World:
    """The clients by id, the keys by bucket, and the effects of the current event."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.buckets: dict[str, dict[str, bytes]] = {}
        #: The timers by owner and key. The owner is a client, or the namespace of the app.
        self.timers: dict[tuple[Any, str], Timer] = {}
        self.enter(None, "/")
        self.take()

    def enter(self, client: Any, namespace: str) -> None:
        """Sets the client and the namespace of the current event."""
        self.client = client
        self.namespace = namespace

    def take(self) -> tuple[list[dict[str, Any]], list[Write]]:
        """Removes and returns the recorded commands and writes."""
        taken = getattr(self, "commands", []), getattr(self, "writes", [])
        self.commands: list[dict[str, Any]] = []
        self.writes: list[Write] = []
        self.values: dict[tuple[str, str], bytes | None] = {}
        return taken

    def record(self, type: str, **command: Any) -> None:
        self.commands.append({"type": type, **command})

    def get(self, bucket: str, key: str) -> bytes | None:
        if (bucket, key) in self.values:
            return self.values[bucket, key]
        return self.buckets.get(bucket, {}).get(key)

    def write(self, bucket: str, key: str, value: bytes | None) -> None:
        self.values[bucket, key] = value
        self.writes.append((bucket, key, value))

    def keys(self, bucket: str, prefix: str) -> list[str]:
        keys = {*self.buckets.get(bucket, {}), *(key for (of, key) in self.values if of == bucket)}
        return sorted(key for key in keys if key.startswith(prefix) and self.get(bucket, key) is not None)

    def commit(self, writes: list[Write]) -> None:
        for bucket, key, value in writes:
            keys = self.buckets.setdefault(bucket, {})
            if value is None:
                keys.pop(key, None)
            else:
                keys[key] = value

    def timer_owner(self, of: str) -> Any:
        """The owner of a timer that the current event sets. None if a client must own it and cannot: there is none, or it has
        disconnected."""
        if of == "app":
            return self.namespace
        return self.client if self.client and self.client.id in self.clients else None

    def audience(self, to: dict[str, Any]) -> list[Any]:
        """The clients that an audience selects."""
        namespace = to.get("namespace", self.namespace)

        def matches(client: Any, names: list[str]) -> bool:
            return client.id in names or not client.rooms.isdisjoint(names)

        return [
            client
            for client in self.clients.values()
            if client.namespace == namespace
            and ("all" in to or matches(client, to["rooms"]))
            and not matches(client, to.get("without", []))
        ]


world = World()


def values_of(payload: Any) -> list[Any]:
    """Decodes arguments."""
    # Imported on the first call, because that module imports the contract, which this one defines.
    from ._payload import decode

    return decode(payload)


def _describe(audience: Any) -> dict[str, Any]:
    """The description of an audience in effects."""
    to: dict[str, Any] = {}
    if audience.namespace is not None:
        to["namespace"] = audience.namespace
    if isinstance(audience.to, _OUTBOX["Scope_All"]):
        to["all"] = True
    else:
        to["rooms"] = list(dict.fromkeys([*audience.to.value.channels, *audience.to.value.clients]))
    without = list(dict.fromkeys([*audience.except_.channels, *audience.except_.clients]))
    return {**to, "without": without} if without else to


# ---- The imports ----


def _publish(audience: Any, event: str, args: Any, how: Delivery) -> None:
    volatile = {"volatile": True} if Delivery.VOLATILE in how else {}
    world.record("emit", to=_describe(audience), event=event, args=values_of(args), **volatile)


def _ack(_: Any, args: Any) -> None:
    world.record("ack", args=values_of(args))


def _request(audience: Any, event: str, args: Any, _: int, token: bytes) -> None:
    world.record("ask", to=_describe(audience), event=event, args=values_of(args), reply=token.decode())


def _refuse(message: str, data: str | None) -> None:
    world.record("refuse", message=message, data=None if data is None else json.loads(data))


def _add(bucket: str, key: str, by: int) -> None:
    world.write(bucket, key, str(int(world.get(bucket, key) or b"0") + by).encode())


class Owner(enum.Enum):
    CLIENT = 0
    APP = 1


def _owner_name(owner: Owner) -> str:
    name = owner.name.lower()
    if world.timer_owner(name) is None:
        raise Err("this event has no connected client to own the timer: use a timer of the app")
    return name


def _timer(how: str) -> Callable[..., None]:
    def record(owner: Owner, key: str, time_ms: int, kind: str, data: bytes) -> None:
        world.record("timer", of=_owner_name(owner), key=key, kind=kind, data=json.loads(data), **{how: time_ms})

    return record


def _cancel(owner: Owner, key: str) -> None:
    world.record("cancel", of=_owner_name(owner), key=key)


class _Bucket:
    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> bytes | None:
        return world.get(self.name, key)

    def set(self, key: str, value: bytes) -> None:
        world.write(self.name, key, bytes(value))

    def delete(self, key: str) -> None:
        world.write(self.name, key, None)


def _list_keys(bucket: str, prefix: str, _: Any) -> Any:
    return python_types.SimpleNamespace(keys=world.keys(bucket, prefix), cursor=None)


def _module(name: str, **contents: Any) -> python_types.ModuleType:
    module = python_types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module
    return module


def install() -> None:
    """Defines the modules that a component has for the contract's imports."""
    outbox: dict[str, Callable[..., None]] = {
        "publish": _publish,
        "ack": _ack,
        "request": _request,
        "refuse": _refuse,
        "subscribe": lambda to, rooms: world.record("join", to=_describe(to), rooms=list(rooms)),
        "unsubscribe": lambda to, rooms: world.record("leave", to=_describe(to), rooms=list(rooms)),
        "disconnect": lambda to, close: world.record("disconnect", to=_describe(to), close=close),
        "patch_attributes": lambda client, patch: world.record("attributes", client=client, patch=json.loads(patch)),
    }
    scope = _OUTBOX["Scope_All"] | _OUTBOX["Scope_Only"]
    event = python_types.SimpleNamespace
    imports = _module(
        "wit_world.imports",
        types=_module("wit_world.imports.types", Event=event, **_TYPES),
        outbox=_module("wit_world.imports.outbox", Delivery=Delivery, Scope=scope, **_OUTBOX, **outbox),
        kv=_module(
            "wit_world.imports.kv",
            add=_add,
            list_keys=_list_keys,
            set_with_ttl=lambda bucket, key, value, _: world.write(bucket, key, bytes(value)),
        ),
        schedule=_module("wit_world.imports.schedule", Owner=Owner, at=_timer("at"), every=_timer("every"), cancel=_cancel),
        wasi_keyvalue_store=_module("wit_world.imports.wasi_keyvalue_store", open=_Bucket),
    )
    _module("wit_world", imports=imports)
    _module("componentize_py_types", Err=Err)
