"""The rules for commands in the test kit: what plugnode refuses, in its words. They are those of `guest-sdk/src/native/rules.rs`, with
the default limits of an app.

A check returns the bytes that count against the limit of an event, and raises a `Refusal`."""

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, NoReturn

MAX_NAME = 1_024
MAX_COMMANDS = 10_000
MAX_BYTES = 16_000_000
MAX_PAYLOAD = 4_000_000
MAX_ATTACHMENTS = 10
MAX_VALUE = 1_000_000
MAX_REFUSAL_MESSAGE = 1 << 10
MAX_REFUSAL_DATA = 16 << 10
MIN_PERIOD_MS = 50
#: Event names that Socket.IO emits itself on the receiving side.
RESERVED_EVENTS = frozenset({"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"})
#: Prefix of the kinds that only the host uses.
RESERVED_KINDS = "plugnode."


class Case(Enum):
    """The cases of the contract's errors."""

    DENIED = "Denied"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PAYLOAD_TOO_LARGE = "PayloadTooLarge"
    INVALID = "Invalid"


class Refusal(Exception):
    """A command that the contract refuses. It becomes the error of the interface that the command belongs to."""

    def __init__(self, case: Case, reason: str = "") -> None:
        super().__init__(reason)
        self.case = case
        self.reason = reason


def invalid(reason: str) -> NoReturn:
    raise Refusal(Case.INVALID, reason)


def denied(reason: str) -> NoReturn:
    raise Refusal(Case.DENIED, reason)


def quoted(text: str) -> str:
    """A text as the host quotes it."""
    return json.dumps(text, ensure_ascii=False)


def size_of(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def size_of_all(names: Iterable[str]) -> int:
    return sum(size_of(name) for name in names)


def check_name(what: str, name: str) -> int:
    size = size_of(name)
    if size > MAX_NAME:
        invalid(f"the name of the {what} has {size} bytes; a name may have {MAX_NAME}")
    return size


def check_size(size: int) -> int:
    if size > MAX_PAYLOAD:
        raise Refusal(Case.PAYLOAD_TOO_LARGE)
    return size


def check_event_name(event: str) -> int:
    if event in RESERVED_EVENTS:
        invalid(f"the event name {quoted(event)} is reserved by Socket.IO: choose another")
    return check_name("event", event)


def check_payload(payload: Any) -> int:
    count = len(payload.attachments)
    if count > MAX_ATTACHMENTS:
        invalid(
            f"{count} attachments are over the limit of {MAX_ATTACHMENTS}: Socket.IO's own clients close their connection over "
            f"more than {MAX_ATTACHMENTS}, so send several events, or join the binary values (only where all clients take more: "
            "raise `attachments` in the app's `limits`)"
        )
    return check_size(size_of(payload.json) + sum(map(len, payload.attachments)))


def check_audience(audience: Any) -> int:
    """Checks an audience. Names that select clients may have any length: a name that no client has selects none."""
    namespace = audience.namespace
    if namespace is not None:
        if not namespace.startswith("/"):
            invalid(f'the namespace {quoted(namespace)} does not begin with a slash; write "/{namespace}"')
        check_name("namespace", namespace)
    selections = [audience.except_, *([audience.to.value] if hasattr(audience.to, "value") else [])]
    return sum(size_of_all(selection.clients) + size_of_all(selection.channels) for selection in selections)


def check_new_channels(channels: list[str]) -> int:
    return sum(check_name("channel", channel) for channel in channels)


def check_patch(patch: str) -> int:
    return check_size(size_of(patch))


def check_custom_kind(kind: str) -> int:
    if kind.startswith(RESERVED_KINDS):
        invalid(f"invalid kind {quoted(kind)}: the prefix `{RESERVED_KINDS}` is reserved for the host")
    return size_of(kind)


def check_refusal(call: str | None, message: str, data: str | None) -> int:
    """Checks a refusal. `call` is the kind of the current event."""
    if call != "connection":
        denied("a client can be refused only while its connection is handled: disconnect it instead")
    message_size, data_size = size_of(message), size_of(data or "")
    if message_size > MAX_REFUSAL_MESSAGE or data_size > MAX_REFUSAL_DATA:
        raise Refusal(Case.PAYLOAD_TOO_LARGE)
    return message_size + data_size


def check_timer(call: str | None, has_client: bool, is_of_client: bool, key: str) -> int:
    """Checks the owner and key of a timer. `call` is the kind of the current event."""
    size = size_of(key)
    if not 1 <= size <= MAX_NAME:
        invalid(f"invalid key: use 1 to {MAX_NAME} bytes")
    if is_of_client and not has_client:
        denied("this event has no client to own the timer: make the app its owner")
    if is_of_client and call == "disconnect":
        denied("the client has disconnected, which ends its timers: make the app the timer's owner")
    return size


def check_timer_event(kind: str, data: bytes) -> int:
    size = size_of(kind)
    if not 1 <= size <= MAX_NAME or kind.startswith(RESERVED_KINDS):
        invalid(f"invalid kind {quoted(kind)}: use 1 to {MAX_NAME} bytes that do not begin with `{RESERVED_KINDS}`")
    if len(data) > MAX_PAYLOAD:
        invalid(f"data of {len(data)} bytes is over the app's limit of {MAX_PAYLOAD}: use less, or raise limits.payload")
    return size + len(data)


def check_period(period_ms: int) -> None:
    if period_ms < MIN_PERIOD_MS:
        invalid(f"a period of {period_ms} ms is too short: use at least {MIN_PERIOD_MS} ms")


def check_value(value: bytes) -> int:
    size = len(value)
    if size > MAX_VALUE:
        invalid(f"a value of {size} bytes is over the app's limit of {MAX_VALUE}: store less under one key, or raise limits.value")
    return size


def check_sum(key: str, stored: bytes, by: int) -> bytes:
    """The sum of a stored integer and another."""
    if not re.fullmatch(rb"[+-]?[0-9]+", stored):
        invalid(f"cannot add to key {quoted(key)}: its value is not an integer")
    total = int(stored) + by
    if not -(2**63) <= total < 2**63:
        invalid(f"cannot add to key {quoted(key)}: the sum is too large")
    return str(total).encode()


class Quota:
    """Counts commands and writes of one event, and their bytes."""

    def __init__(self) -> None:
        self._count = 0
        self._bytes = 0

    def charge(self, size: int) -> None:
        if self._count >= MAX_COMMANDS or self._bytes + size > MAX_BYTES:
            raise Refusal(Case.QUOTA_EXCEEDED)
        self._count += 1
        self._bytes += size
