"""The program that tests/it/timers.rs drives."""

from plugnode import app, everyone, kv, schedule

KIND = "test.due/1"


@app.on("timer-after")
def after(client, owner, key, ms, data):
    getattr(schedule, owner).after(key, ms / 1000, KIND, data)
    return True


@app.on("timer-every")
def every(client, owner, key, ms, data):
    getattr(schedule, owner).every(key, ms / 1000, KIND, data)
    return True


@app.on("timer-cancel")
def cancel(client, owner, key):
    getattr(schedule, owner).cancel(key)
    return True


@app.on("get")
def get(client, key):
    return (kv.get(key),)


@schedule.on(KIND)
def due(data, due):
    kv.add(f"due:{due.key}")
    (due.client or everyone).emit("due", due.key, data, due.missed)
