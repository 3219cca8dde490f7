"""Wrong uses of the package plugnode, for the type checker: it must find the error that each comment names. In strict mode, a comment
without an error is an error."""

from plugnode import Client, Due, Handshake, ack_id, acknowledge, app, config, context, everyone, kv, schedule, state, to
from plugnode.testing import connect, fire, stored


@app.on("connection")
def enter(client: Client, handshake: Handshake) -> None:
    handshake["name"]  # type: ignore[typeddict-item]
    handshake["query"].values()  # type: ignore[attr-defined]
    client.emit("welcome", handshake["auth"], handshake["address"])


@app.on("say")
def say(client: Client, text: str) -> str:
    client.emit(1)  # type: ignore[arg-type]
    client.emit("said", text, volatile="yes")  # type: ignore[arg-type]
    client.broadcast("said", text)  # type: ignore[attr-defined]
    client.others.to("room")  # type: ignore[attr-defined]
    client.ask("question", text)  # type: ignore[call-arg]
    client.attributes = text  # type: ignore[assignment]
    to(1).emit("said")  # type: ignore[arg-type]
    everyone.without(client, "room").join(1)  # type: ignore[arg-type]
    return client.id


@app.on("no client")  # type: ignore[type-var]
def without_client() -> None:
    context().relase  # type: ignore[attr-defined]
    context().attempt.upper()  # type: ignore[attr-defined]
    kv.set("key", 1, ttl="60")  # type: ignore[arg-type]
    kv.get_bytes("key").decode()  # type: ignore[union-attr]
    state("key", [])  # type: ignore[arg-type]
    config["key"] = 1  # type: ignore[assignment]


@app.on_custom("test.custom/1")  # type: ignore[type-var]
def custom(data: object) -> None:
    acknowledge(ack_id())  # type: ignore[arg-type]


@schedule.on("test.due/1")
def due(data: str, due: Due) -> None:
    due.client.emit("due")  # type: ignore[union-attr]
    due.missed = 1  # type: ignore[misc]
    schedule.client.after("key", "60", "test.due/1")  # type: ignore[arg-type]
    schedule.everyone.cancel("key")  # type: ignore[attr-defined]


@schedule.on("test.due/1")  # type: ignore[type-var]
def due_of(data: str, client: Client) -> None: ...


def test_say() -> None:
    ada = connect(name="ada")  # type: ignore[call-arg]
    ada.emit(1)  # type: ignore[arg-type]
    ada.fire("key", 2)  # type: ignore[call-arg]
    fire(1)  # type: ignore[arg-type]
    stored(1)  # type: ignore[arg-type]
