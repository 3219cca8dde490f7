"""plugnode handlers in Python: listeners for the events of Socket.IO clients.

    from plugnode import app, state

    @app.on("say")
    def say(client, text):
        client.others.emit("said", client.id, text)
        return "heard"  # answers the client's acknowledgement

The effects of an event are committed as a whole when its listeners have returned. If a listener raises, they are dropped, and the
event becomes a dead letter with the traceback. The events of a client are handled in order, by any of the app's instances: module
variables belong to one instance, while `client.attributes`, `state` and `kv` are shared.
"""

try:
    import wit_world  # noqa: F401
except ModuleNotFoundError:
    # Not in a component, but in tests or an editor.
    from . import _test_host

    _test_host.install()

from ._app import App, Context, Handshake, Refuse, Retry, ack_id, acknowledge, app, context, send_custom
from ._clients import Audience, Client, everyone, to
from ._presence import Change, Member, presence
from ._schedule import Due, schedule
from ._store import Bucket, State, kv, state

__all__ = [
    "App",
    "Audience",
    "Bucket",
    "Change",
    "Client",
    "Context",
    "Due",
    "Handshake",
    "Member",
    "Refuse",
    "Retry",
    "State",
    "ack_id",
    "acknowledge",
    "app",
    "config",
    "context",
    "everyone",
    "kv",
    "presence",
    "schedule",
    "send_custom",
    "state",
    "to",
]

#: The `config` table of the app's configuration.
config: dict[str, str] = {}
