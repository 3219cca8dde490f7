"""The program that tests/it/presence.rs drives."""

from plugnode import app, everyone, presence, to


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


@presence.on
def changed(change):
    everyone.emit("presence", {"client": change.client, "joined": change.joined, "left": change.left})
