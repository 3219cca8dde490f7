"""Emits events to the Socket.IO clients of plugnode, through its server API.

    from plugnode_emitter import Emitter

    emitter = Emitter("http://127.0.0.1:9090", key)
    emitter.of("/chat").to("room1").except_("room2").emit("news", "hello")
    args = emitter.event("/shop", "acme.price-change/1", {"sku": 7}).args  # what the handler answers

Each call returns when it was carried out. Without an answer it is repeated with the same idempotency key, so that it takes effect once.
"""

from ._emitter import Batch, Broadcast, Done, Emitter, Found, Handled, Present, RemoteSocket
from ._http import EmitterError

__all__ = ["Batch", "Broadcast", "Done", "Emitter", "EmitterError", "Found", "Handled", "Present", "RemoteSocket"]
