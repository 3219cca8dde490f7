"""The program that tests/it/api.rs drives: answers custom events."""

from plugnode import ack_id, acknowledge, app, everyone, kv, schedule


@app.on_custom("faulty.count/1")
def count(data, client):
    counted = kv.get("customs", 0) + 1
    kv.set("customs", counted)
    everyone.emit("counted", counted)
    return counted, data


@app.on_custom("faulty.quiet/1")
def quiet(data, client):
    pass


@app.on_custom("faulty.late/1")
def late(data, client):
    schedule.app.after("late", 0.05, "faulty.late/1", ack_id())


@schedule.on("faulty.late/1")
def answer(ack, due):
    acknowledge(ack, "late")


@app.on_custom("faulty.reject/1")
def reject(data, client):
    raise RuntimeError("asked to reject")


@app.on_custom("test.echo/1")
async def echo(data, client):
    return [data] if client is None else None
