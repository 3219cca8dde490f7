"""Handlers of plugnode in Python: listeners for what Socket.IO clients do.

    from plugnode import app, state

    @app.on("say")
    def say(client, text):
        client.others.emit("said", client.id, text)
        return "heard"  # answers the client's acknowledgement

What a listener asks for takes effect when it has returned, as a whole; when it raises, none of it does, and the event is put
aside with the traceback. Events of a client come in their order, to any of the app's instances: module variables are an
instance's own, `client.attributes`, `state` and `kv` are the same for all.
"""

try:
    import wit_world  # noqa: F401
except ModuleNotFoundError:
    # No component: a program's tests, or an editor.
    from . import _outside

    _outside.install()

from ._app import App, Refuse, Retry, app, context
from ._clients import Audience, Client, everyone, to
from ._schedule import Due, schedule
from ._store import Bucket, State, kv, state

__all__ = ["App", "Audience", "Bucket", "Client", "Due", "Refuse", "Retry", "State", "app", "config", "context", "everyone", "kv", "schedule", "state", "to"]

#: The `config` table of the app's configuration.
config: dict[str, str] = {}
