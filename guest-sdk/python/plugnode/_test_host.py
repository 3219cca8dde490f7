"""The host of `plugnode.testing`: implements the contract's imports outside of a component. Records the commands and writes of an
event. Clients and keys exist only in this process."""

import enum
import json
import sys
import types as python_types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _test_rules as rules


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
#: The cases of the errors of each interface.
_ERRORS = {
    "outbox": _records(
        Error_Denied="value", Error_QuotaExceeded="", Error_PayloadTooLarge="", Error_Invalid="value", Error_Other="value"
    ),
    "schedule": _records(Error_Denied="value", Error_QuotaExceeded="", Error_Invalid="value", Error_Other="value"),
    "kv": _records(Error_Denied="value", Error_QuotaExceeded="", Error_Invalid="value", Error_Other="value"),
    "presence": _records(Error_Denied="value", Error_Other="value"),
    "store": _records(Error_NoSuchStore="", Error_AccessDenied="", Error_Other="value"),
}
#: What the errors of `wasi:keyvalue`, which have no case for it, say.
_NO_QUOTA_FOR_WRITE = "this event has used up its writes or bytes: write less, or raise limits.commands or limits.bytes"


def _error(interface: str, refusal: rules.Refusal) -> Err:
    """The error of an interface for a refusal."""
    cases = _ERRORS[interface]
    if interface == "store":
        return Err(cases["Error_Other"](refusal.reason or _NO_QUOTA_FOR_WRITE))
    case = cases[f"Error_{refusal.case.value}"]
    return Err(case(refusal.reason) if refusal.reason else case())


#: Imports by name.
Commands = dict[str, Callable[..., None]]


def _checked(interface: str, function: Callable[..., None]) -> Callable[..., None]:
    """An import, whose refusals become the errors of its interface."""

    def call(*args: Any) -> None:
        try:
            function(*args)
        except rules.Refusal as refusal:
            raise _error(interface, refusal) from None

    return call



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
        self.enter(None, "/", None)
        self.take()

    def enter(self, client: Any, namespace: str, call: str | None) -> None:
        """Sets the client, the namespace and the kind of the current event. Without a kind, no event is being handled."""
        self.client = client
        self.namespace = namespace
        self.call = call

    def take(self) -> tuple[list[dict[str, Any]], list[Write]]:
        """Removes and returns the recorded commands and writes."""
        taken = getattr(self, "commands", []), getattr(self, "writes", [])
        self.commands: list[dict[str, Any]] = []
        self.writes: list[Write] = []
        self.values: dict[tuple[str, str], bytes | None] = {}
        self._quota = rules.Quota()
        return taken

    def record(self, type: str, size: int, **command: Any) -> None:
        """Records a command that counts for this many bytes."""
        if self.call is None:
            rules.denied("no event is being handled: call this while an event is handled")
        self._quota.charge(size)
        self.commands.append({"type": type, **command})

    def get(self, bucket: str, key: str) -> bytes | None:
        if (bucket, key) in self.values:
            return self.values[bucket, key]
        return self.buckets.get(bucket, {}).get(key)

    def write(self, bucket: str, key: str, value: bytes | None) -> None:
        if self.call is None:
            rules.denied("cannot write outside of an event: write while an event is handled")
        size = 0 if value is None else rules.check_value(value)
        self._quota.charge(rules.size_of(bucket) + rules.size_of(key) + size)
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
    size = rules.check_event_name(event) + rules.check_payload(args) + rules.check_audience(audience)
    world.record("emit", size, to=_describe(audience), event=event, args=values_of(args), **volatile)


def _ack(_: Any, args: Any) -> None:
    world.record("ack", rules.check_payload(args), args=values_of(args))


def _request(audience: Any, event: str, args: Any, _: int, token: bytes) -> None:
    size = rules.check_event_name(event) + rules.check_size(len(token))
    size += rules.check_payload(args) + rules.check_audience(audience)
    world.record("ask", size, to=_describe(audience), event=event, args=values_of(args), reply=token.decode())


def _subscribe(audience: Any, rooms: list[str]) -> None:
    size = rules.check_audience(audience) + rules.check_new_channels(rooms)
    world.record("join", size, to=_describe(audience), rooms=list(rooms))


def _unsubscribe(audience: Any, rooms: list[str]) -> None:
    size = rules.check_audience(audience) + rules.size_of_all(rooms)
    world.record("leave", size, to=_describe(audience), rooms=list(rooms))


def _disconnect(audience: Any, close: bool) -> None:
    world.record("disconnect", rules.check_audience(audience), to=_describe(audience), close=close)


def _patch_attributes(client: str, patch: str) -> None:
    size = rules.size_of(client) + rules.check_patch(patch)
    world.record("attributes", size, client=client, patch=json.loads(patch))


def _refuse(message: str, data: str | None) -> None:
    size = rules.check_refusal(world.call, message, data)
    world.record("refuse", size, message=message, data=None if data is None else json.loads(data))


def _custom(_: str | None, kind: str, data: bytes) -> None:
    size = rules.check_custom_kind(kind) + rules.check_size(len(data))
    world.record("custom", size, kind=kind, data=bytes(data))


def _add(bucket: str, key: str, by: int) -> None:
    world.write(bucket, key, rules.check_sum(key, world.get(bucket, key) or b"0", by))


def _set_with_ttl(bucket: str, key: str, value: bytes, _: int) -> None:
    world.write(bucket, key, bytes(value))


class Owner(enum.Enum):
    CLIENT = 0
    APP = 1


def _check_timer(owner: Owner, key: str) -> int:
    """Checks the owner and key of a timer."""
    return rules.check_timer(world.call, world.client is not None, owner is Owner.CLIENT, key)


def _timer(owner: Owner, key: str, kind: str, data: bytes, **when: int) -> None:
    size = _check_timer(owner, key) + rules.check_timer_event(kind, data)
    world.record("timer", size, of=owner.name.lower(), key=key, kind=kind, data=json.loads(data), **when)


def _at(owner: Owner, key: str, time_ms: int, kind: str, data: bytes) -> None:
    _timer(owner, key, kind, data, at=time_ms)


def _every(owner: Owner, key: str, period_ms: int, kind: str, data: bytes) -> None:
    rules.check_period(period_ms)
    _timer(owner, key, kind, data, every=period_ms)


def _cancel(owner: Owner, key: str) -> None:
    world.record("cancel", _check_timer(owner, key), of=owner.name.lower(), key=key)


class _Bucket:
    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> bytes | None:
        return world.get(self.name, key)

    def set(self, key: str, value: bytes) -> None:
        _checked("store", world.write)(self.name, key, bytes(value))

    def delete(self, key: str) -> None:
        _checked("store", world.write)(self.name, key, None)


def _list_keys(bucket: str, prefix: str, _: Any) -> Any:
    return python_types.SimpleNamespace(keys=world.keys(bucket, prefix), cursor=None)


def _present(channel: str) -> list[Any]:
    """The clients in a channel of the event's namespace."""
    clients = world.clients.values()
    return [client for client in clients if client.namespace == world.namespace and channel in client.rooms]


def _members(channel: str, _: Any) -> Any:
    members = [
        python_types.SimpleNamespace(client=client.id, since_ms=0, attributes=json.dumps(client.attributes))
        for client in _present(channel)
    ]
    return python_types.SimpleNamespace(members=members, cursor=None)


def _module(name: str, **contents: Any) -> python_types.ModuleType:
    module = python_types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module
    return module


def _interface(name: str, commands: Commands, **contents: Any) -> python_types.ModuleType:
    """The module of an interface: its commands, its errors, and the rest."""
    checked = {command: _checked(name, function) for command, function in commands.items()}
    return _module(f"wit_world.imports.{name}", **checked, **_ERRORS[name], **contents)


def install() -> None:
    """Defines the modules that a component has for the contract's imports."""
    outbox: Commands = {
        "publish": _publish,
        "ack": _ack,
        "request": _request,
        "refuse": _refuse,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "disconnect": _disconnect,
        "patch_attributes": _patch_attributes,
        "custom": _custom,
    }
    kv: Commands = {"add": _add, "set_with_ttl": _set_with_ttl}
    schedule: Commands = {"at": _at, "every": _every, "cancel": _cancel}
    scope = _OUTBOX["Scope_All"] | _OUTBOX["Scope_Only"]
    event = python_types.SimpleNamespace
    imports = _module(
        "wit_world.imports",
        types=_module("wit_world.imports.types", Event=event, **_TYPES),
        outbox=_interface("outbox", outbox, Delivery=Delivery, Scope=scope, **_OUTBOX),
        kv=_interface("kv", kv, list_keys=_list_keys),
        presence=_interface(
            "presence", {}, count=lambda channel: len(_present(channel)), members=_members
        ),
        schedule=_interface("schedule", schedule, Owner=Owner),
        wasi_keyvalue_store=_module("wit_world.imports.wasi_keyvalue_store", open=_Bucket, **_ERRORS["store"]),
    )
    _module("wit_world", imports=imports)
    _module("componentize_py_types", Err=Err)
