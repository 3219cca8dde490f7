"""The chat of examples/chat in Python: the same events, history and page.

The program keeps no state in variables: names are attributes of the clients, and the history is in the key-value store. Any instance
can handle any event, and a release in any language can take over during a conversation.
"""

from typing import Any

import history
from plugnode import Client, Handshake, app, context
from text import BODY_RULE, NAME_RULE, body_in, name_in


@app.on("connection")
def enter(client: Client, handshake: Handshake) -> None:
    auth = handshake["auth"]
    name = name_in(auth.get("name")) if isinstance(auth, dict) else None
    if name:
        client.set(name=name)
    client.emit("welcome", {"name": name_of(client), "release": context().release})
    client.emit("history", history.last())
    client.others.emit("joined", {"id": client.id, "name": name_of(client)})


@app.on("message")
def say(client: Client, given: Any = None, *_: Any) -> dict[str, Any]:
    body = body_in(given)
    if not body:
        return {"error": BODY_RULE}
    event = context()
    message = {
        "id": event.id,
        "from": client.id,
        "name": name_of(client),
        "body": body,
        "at": event.received_at_ms,
        "release": event.release,
    }
    history.add(message)
    client.others.emit("message", message)
    return {"ok": message}


@app.on("set name")
def rename(client: Client, given: Any = None, *_: Any) -> dict[str, str]:
    name = name_in(given)
    if not name:
        return {"error": NAME_RULE}
    was = name_of(client)
    if name != was:
        client.set(name=name)
        client.others.emit("renamed", {"id": client.id, "name": name, "was": was})
    return {"ok": name}


@app.on("disconnect")
def leave(client: Client, reason: str) -> None:
    client.others.emit("left", {"id": client.id, "name": name_of(client)})


def name_of(client: Client) -> str:
    return str(client.attributes.get("name", f"guest {client.id[:4]}"))
