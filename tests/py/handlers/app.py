"""The program that tests/it/scripts.rs drives: one event for each feature."""

import hashlib
import logging
import random

from plugnode import Bucket, Refuse, Retry, app, config, context, everyone, kv, state, to
from shop.cart import price


@app.on("connection")
def enter(client, how):
    if how["auth"] and how["auth"].get("name") == "nobody":
        raise Refuse("not you", {"code": 7})
    client.set(name=(how["auth"] or {}).get("name", "somebody"), spare=1)
    client.set(spare=None)


@app.on("echo")
def echo(client, *args):
    client.emit("echo", *args)
    return args


@app.on("who")
def who(client):
    return client.attributes


@app.on("count")
def count(client):
    counted = state("counted", {"n": 0})
    counted["n"] += 1
    kv.add("added")
    return counted["n"]


@app.on("counted")
def counted(client):
    return state("counted")["n"], kv.get("added"), sorted(kv.keys("c")), "counted" in kv


@app.on("join")
def join(client, room):
    client.join(room)


@app.on("to room")
def to_room(client, room, *args):
    client.to(room).emit("in room", *args)
    to(client).emit("for you", *args)
    everyone.without(client, room).emit("for others", *args)


@app.on("ask me")
def ask_me(client, question):
    client.ask("question", question, reply="answered")


@app.on_reply("answered")
def answered(client, answer):
    client.emit("told", answer)


@app.on("later")
async def later(client):
    async def value():
        return "later"

    return await value()


@app.on("price")
def price_of(client, *items):
    return price(items)


@app.on("draw")
def draw(client):
    return random.random(), hashlib.sha256(b"x").hexdigest()


@app.on("fail")
def fail(client):
    client.emit("told", "what must not be told")
    state("counted")["n"] = -1
    return price([None])


@app.on("again")
def again(client):
    if context().attempt < 2:
        raise Retry("not yet")
    return context().attempt


@app.on("loop")
def loop(client):
    while True:
        pass


@app.on("recurse")
def recurse(client):
    return recurse(client)


@app.on("exit")
def exit_it(client):
    raise SystemExit(3)


@app.on("eat")
def eat(client):
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


@app.on("denied")
def denied(client):
    return Bucket("secret").get("x")


@app.on("flood")
def flood(client):
    while True:
        client.emit("drop", 1)


@app.on("chain")
def chain(client):
    try:
        {}["nothing"]
    except KeyError as error:
        raise ValueError("outer") from error


@app.on("group")
def group(client):
    raise ExceptionGroup("several", [ValueError("one"), ValueError("two")])


@app.on("unsendable")
def unsendable(client):
    return object()


@app.on("fetch")
def fetch(client):
    import requests  # noqa: F401


@app.on("damage")
def damage(client):
    import builtins

    builtins.isinstance = None
    raise ValueError("damaged")


@app.on("log")
def log(client):
    logging.getLogger("shop").warning("a line of %s", client.attributes["name"])
    return config


@app.on("disconnect")
def leave(client, reason):
    everyone.emit("went", client.attributes["name"], reason, sorted(client.rooms))
