"""Presence: who is in a channel, across io-nodes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wit_world.imports import presence as host

#: Kind of the custom event of a change.
KIND = "plugnode.presence/1"


@dataclass(frozen=True)
class Member:
    """A client in a channel."""

    id: str
    #: When it joined, in seconds since 1970.
    since: float
    #: Its attributes when it joined; None if they had more than 4096 bytes.
    attributes: dict[str, Any] | None


@dataclass(frozen=True)
class Change:
    """Channels with presence that a client joined and left. When it disconnects, `left` has all of them."""

    #: The id of the client.
    client: str
    joined: list[str]
    left: list[str]


ChangeListener = TypeVar("ChangeListener", bound=Callable[[Change], Any])


class Presence:
    """Who is in a channel, for the channels that the app's configuration names in `presence.channels`. Reads see the last commit: what
    the current event changes is not in it yet."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Change], Any]] = []

    def count(self, channel: str) -> int:
        return host.count(channel)

    def members(self, channel: str) -> list[Member]:
        members: dict[str, Member] = {}
        cursor = None
        while True:
            page = host.members(channel, cursor)
            for member in page.members:
                attributes = None if member.attributes is None else json.loads(member.attributes)
                members[member.client] = Member(member.client, member.since_ms / 1000, attributes)
            cursor = page.cursor
            if cursor is None:
                return list(members.values())

    def on(self, listener: ChangeListener) -> ChangeListener:
        """Calls the function for each change, if `presence.events` is set."""
        self._listeners.append(listener)
        return listener

    def _dispatch(self, kind: str, data: bytes, call: Callable[..., Any]) -> bool:
        """Calls the listeners if the event tells of a change. Returns whether it does."""
        if kind != KIND:
            return False
        for listener in self._listeners:
            call(listener, Change(**json.loads(data)))
        return True


presence = Presence()
