"""Who is emitted to: a client, rooms, everyone."""

import json
from typing import Any

from wit_world.imports import outbox

from ._payload import encode

#: How long a client has to answer a question, in seconds.
PATIENCE = 60.0


class Audience:
    """Clients and rooms. Its methods take effect when the event has been handled."""

    def __init__(self, to: list[str] | None = None, without: tuple[str, ...] = (), namespace: str | None = None) -> None:
        self._to = to
        self._without = without
        self._namespace = namespace

    def _audience(self) -> outbox.Audience:
        # A name is a room's or a client's: who asks does not say which.
        every: outbox.Scope = outbox.Scope_All()
        scope = every if self._to is None else outbox.Scope_Only(outbox.Selection(self._to, self._to))
        names = list(self._without)
        return outbox.Audience(self._namespace, scope, outbox.Selection(names, names))

    def emit(self, event: str, *args: Any, volatile: bool = False) -> None:
        """Emits an event. `volatile`: clients that cannot take it at once miss it."""
        how = outbox.Delivery.VOLATILE if volatile else outbox.Delivery(0)
        outbox.publish(self._audience(), event, encode(args), how)

    def join(self, *rooms: str) -> None:
        outbox.subscribe(self._audience(), list(rooms))

    def leave(self, *rooms: str) -> None:
        outbox.unsubscribe(self._audience(), list(rooms))

    def disconnect(self, close: bool = False) -> None:
        """Disconnects from the namespace; `close` ends the whole connection."""
        outbox.disconnect(self._audience(), close)

    def without(self, *names: "str | Client") -> "Audience":
        """All but these rooms and clients."""
        more = tuple(name.id if isinstance(name, Client) else name for name in names)
        return Audience(self._to, self._without + more, self._namespace)

    def of(self, namespace: str) -> "Audience":
        """The same in another namespace."""
        return Audience(self._to, self._without, namespace)


class Client(Audience):
    """The client of the event that is handled."""

    def __init__(self, id: str, namespace: str, attributes: str, rooms: frozenset[str] | None = None) -> None:
        super().__init__([id])
        self.id = id
        self.namespace = namespace
        #: What is kept of it, and comes with each of its events: changed by `set`.
        self.attributes: dict[str, Any] = json.loads(attributes)
        #: In `disconnect`: the rooms that it was in until then. None when its io-node died with them, and elsewhere.
        self.rooms = rooms

    @property
    def others(self) -> Audience:
        """All clients of the namespace but this one."""
        return everyone.without(self)

    def to(self, *rooms: str) -> Audience:
        """Rooms, without this client."""
        return to(*rooms).without(self)

    def set(self, **patch: Any) -> None:
        """Merges these into its attributes; None takes one away. They live as long as the connection."""
        outbox.patch_attributes(self.id, json.dumps(patch))
        for name, value in patch.items():
            if value is None:
                self.attributes.pop(name, None)
            else:
                self.attributes[name] = value

    def ask(self, event: str, *args: Any, reply: str, timeout: float = PATIENCE) -> None:
        """Emits an event that the client acknowledges. What it answers is an event of its own, and goes to the listener of
        `app.on_reply(reply)`, in whichever instance."""
        outbox.request(self._audience(), event, encode(args), int(timeout * 1000), reply.encode())

    def __repr__(self) -> str:
        return f"<Client {self.id}>"


def to(*names: "str | Client") -> Audience:
    """Rooms, or clients by their ids."""
    return Audience([name.id if isinstance(name, Client) else str(name) for name in names])


#: All clients of the namespace.
everyone = Audience()
