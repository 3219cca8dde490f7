"""Audiences: a client, rooms, everyone."""

import json
from typing import Any

from wit_world.imports import outbox

from ._payload import encode

#: Default time limit for a client's answer to `ask`, in seconds.
DEFAULT_TIMEOUT = 60.0


class Audience:
    """A set of clients, selected by rooms and client ids. The effects of its methods are committed with the event."""

    def __init__(self, to: list[str] | None = None, without: tuple[str, ...] = (), namespace: str | None = None) -> None:
        self._to = to
        self._without = without
        self._namespace = namespace

    def _audience(self) -> outbox.Audience:
        # A name may be that of a room or the id of a client, so it selects both.
        all_clients: outbox.Scope = outbox.Scope_All()
        scope = all_clients if self._to is None else outbox.Scope_Only(outbox.Selection(self._to, self._to))
        names = list(self._without)
        return outbox.Audience(self._namespace, scope, outbox.Selection(names, names))

    def emit(self, event: str, *args: Any, volatile: bool = False) -> None:
        """Emits an event. `volatile` skips clients that are not ready to receive."""
        how = outbox.Delivery.VOLATILE if volatile else outbox.Delivery(0)
        outbox.publish(self._audience(), event, encode(args), how)

    def join(self, *rooms: str) -> None:
        outbox.subscribe(self._audience(), list(rooms))

    def leave(self, *rooms: str) -> None:
        outbox.unsubscribe(self._audience(), list(rooms))

    def disconnect(self, close: bool = False) -> None:
        """Disconnects the clients from the namespace; with `close`, closes their whole connections."""
        outbox.disconnect(self._audience(), close)

    def without(self, *names: "str | Client") -> "Audience":
        """Leaves out these rooms and clients."""
        more = tuple(name.id if isinstance(name, Client) else name for name in names)
        return Audience(self._to, self._without + more, self._namespace)

    def of(self, namespace: str) -> "Audience":
        """The same audience in another namespace."""
        return Audience(self._to, self._without, namespace)


class Client(Audience):
    """The client whose event is being handled."""

    def __init__(self, id: str, namespace: str, attributes: str, rooms: frozenset[str] | None = None) -> None:
        super().__init__([id])
        self.id = id
        self.namespace = namespace
        #: A JSON object that comes with each of the client's events, in any instance. Change it with `set`.
        self.attributes: dict[str, Any] = json.loads(attributes)
        #: In `disconnect`: the rooms that the client was in. None if its io-node died, and in other events.
        self.rooms = rooms

    @property
    def others(self) -> Audience:
        """All other clients of the namespace."""
        return everyone.without(self)

    def to(self, *rooms: str) -> Audience:
        """The clients of these rooms, without this client."""
        return to(*rooms).without(self)

    def set(self, **patch: Any) -> None:
        """Merges these into the client's attributes, which last as long as the connection. None removes an attribute."""
        outbox.patch_attributes(self.id, json.dumps(patch, allow_nan=False))
        for name, value in patch.items():
            if value is None:
                self.attributes.pop(name, None)
            else:
                self.attributes[name] = value

    def ask(self, event: str, *args: Any, reply: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Emits an event and asks the client for an acknowledgement. The answer is a separate event, which the listener of
        `app.on_reply(reply)` handles in any instance. `timeout` is in seconds."""
        outbox.request(self._audience(), event, encode(args), int(timeout * 1000), reply.encode())

    def __repr__(self) -> str:
        return f"<Client {self.id}>"


def to(*names: "str | Client") -> Audience:
    """The clients of these rooms, or with these ids."""
    return Audience([name.id if isinstance(name, Client) else str(name) for name in names])


#: All clients of the namespace.
everyone = Audience()
