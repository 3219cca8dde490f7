"""A chat: who is there, who comes and goes, and what was said last."""

from plugnode import Refuse, app, everyone, state

KEPT = 20


@app.on("connection")
def enter(client, how):
    name = (how["auth"] or {}).get("name")
    if not name:
        raise Refuse("say who you are", {"missing": "name"})
    client.set(name=name)
    client.emit("said before", state("chat", {"said": []})["said"])
    client.others.emit("came", name)


@app.on("say")
def say(client, text):
    said = {"name": client.attributes["name"], "text": str(text)}
    chat = state("chat", {"said": []})
    chat["said"] = [*chat["said"], said][-KEPT:]
    client.others.emit("said", said)
    return len(chat["said"])


@app.on("disconnect")
def leave(client, reason):
    if "name" in client.attributes:
        everyone.emit("went", client.attributes["name"])
