"""The program that tests/it/presence.rs and tests/it/webhooks.rs drive."""

from plugnode import app, everyone, presence, send_custom, to


@app.on("join")
def join(client, room):
    client.join(room)
    return True


@app.on("leave")
def leave(client, room):
    client.leave(room)
    return True


@app.on("empty")
def empty(client, room):
    to(room).leave(room)
    return True


@app.on("name")
def name(client, name):
    client.set(name=name)
    return True


@app.on("present")
def present(client, room):
    members = [[member.id, member.attributes.get("name")] for member in presence.members(room)]
    return [presence.count(room), members]


@app.on("order")
def order(client, data):
    send_custom("acme.order/1", data)
    send_custom("acme.bytes/1", bytes([0, 255]))
    send_custom("other/1")
    return True


@presence.on
def changed(change):
    everyone.emit("presence", {"client": change.client, "joined": change.joined, "left": change.left})
