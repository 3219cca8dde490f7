"""Right and wrong uses of plugnode_emitter, for the type checker: it must find the error that each comment names."""

from plugnode_emitter import Done, Emitter, EmitterError, RemoteSocket

emitter = Emitter(["http://127.0.0.1:9090"], "key", timeout=5)


def right() -> list[str]:
    done: Done = emitter.of("/chat").to("a", "b").except_("c").volatile.emit("news", "text", 7, b"bytes")
    sockets: list[RemoteSocket] = emitter.to("a").fetch_sockets()
    with emitter.batch() as batch:
        batch.of("/chat").to("a").emit("news")
    args = emitter.event("/", "acme.change/1", {"sku": 7}, wait="acknowledged", order="sku-7").args
    return [str(done.event), str(args), *(socket.id for socket in sockets)]


def wrong() -> None:
    Emitter("http://127.0.0.1:9090")  # type: ignore[call-arg]
    emitter.emit(7)  # type: ignore[arg-type]
    emitter.to(7).emit("news")  # type: ignore[arg-type]
    emitter.batch().emit("news").event  # type: ignore[attr-defined]
    emitter.batch().fetch_sockets()  # type: ignore[attr-defined]
    emitter.event("/", "acme.change/1", wait="long")  # type: ignore[arg-type]
    EmitterError("").status + 1  # type: ignore[operator]
