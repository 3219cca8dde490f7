"""What plugnode refuses, `plugnode.testing` refuses in the same words, which are those of `guest-sdk/tests/refusals.json`. PYTHONPATH must
contain the package."""

import json
import unittest
from pathlib import Path

from plugnode import app, everyone, kv, schedule, send_custom
from plugnode.testing import connect, fire, reset

REFUSALS = Path(__file__).parents[2] / "guest-sdk/tests/refusals.json"
LONG = "x" * 1_025


def every(key, kind, seconds=1.0, data=None):
    schedule.client.every(key, seconds, kind, data)


def add_to_text():
    kv.set("text", "no number")
    kv.add("text")


ATTEMPTS = {
    "timer with a period of 49 ms": lambda client: every("key", "test.due/1", 0.049),
    "timer without a key": lambda client: every("", "test.due/1"),
    "timer with a long key": lambda client: every(LONG, "test.due/1"),
    "cancelled timer without a key": lambda client: schedule.client.cancel(""),
    "timer without a kind": lambda client: every("key", ""),
    "timer with a reserved kind": lambda client: every("key", "plugnode.mine/1"),
    "timer with large data": lambda client: every("key", "test.due/1", data="x" * 4_000_000),
    "event with a reserved name": lambda client: client.emit("connect"),
    "event with a long name": lambda client: client.emit(LONG),
    "channel with a long name": lambda client: client.join(LONG + "y"),
    "event with 11 attachments": lambda client: client.emit("bytes", *[b"0"] * 11),
    "message with a reserved kind": lambda client: send_custom("plugnode.mine/1"),
    "value over the limit": lambda client: kv.set_bytes("key", bytes(1_000_001)),
    "addition to a text": lambda client: add_to_text(),
}
for attempt, listener in ATTEMPTS.items():
    app.on(attempt)(listener)


class Refusals(unittest.TestCase):
    def setUp(self):
        reset()

    def refuses(self, call, case, words=""):
        with self.assertRaises(Exception) as raised:
            call()
        error = raised.exception.value
        self.assertEqual((type(error).__name__, getattr(error, "value", "")), (case, words))

    def test_commands_are_refused_in_the_words_of_plugnode(self):
        client = connect()
        for attempt, words in json.loads(REFUSALS.read_text("utf-8")).items():
            case = "Error_Other" if attempt == "value over the limit" else "Error_Invalid"
            with self.subTest(attempt):
                self.refuses(lambda: client.emit(attempt), case, words)
        self.assertEqual(client.take(), [])

    def test_event_over_its_limits_fails(self):
        app.on("many")(lambda client, count: [client.emit("one") for _ in range(count)] and None)
        app.on("large")(lambda client, count: [client.emit("large", "x" * 3_900_000) for _ in range(count)] and None)
        app.on("writes")(lambda client: [kv.set(str(key), "x" * 900_000) for key in range(20)] and None)
        app.on("payload")(lambda client: client.emit("large", "x" * 4_000_000))
        client = connect()
        self.assertEqual(len(client.emit("many", 10_000)), 10_000)
        self.refuses(lambda: client.emit("many", 10_001), "Error_QuotaExceeded")
        client.emit("large", 4)
        self.refuses(lambda: client.emit("large", 5), "Error_QuotaExceeded")
        words = "this event has used up its writes or bytes: write less, or raise limits.commands or limits.bytes"
        self.refuses(lambda: client.emit("writes"), "Error_Other", words)
        self.refuses(lambda: client.emit("payload"), "Error_PayloadTooLarge")

    def test_timer_of_client_needs_client(self):
        app.on("set")(lambda client: schedule.app.after("key", 1, "test.none/1"))
        schedule.on("test.none/1")(lambda data, due: schedule.client.cancel("key"))
        app.on("disconnect")(lambda client, reason: client.attributes and every("key", "test.due/1"))
        app.on("dare")(lambda client: client.set(daring=True))
        client = connect()
        client.emit("set")
        self.refuses(lambda: fire("key"), "Error_Denied", "this event has no client to own the timer: make the app its owner")
        client.emit("dare")
        words = "the client has disconnected, which ends its timers: make the app the timer's owner"
        self.refuses(client.disconnect, "Error_Denied", words)

    def test_effects_need_event(self):
        words = "no event is being handled: call this while an event is handled"
        self.refuses(lambda: everyone.emit("hello"), "Error_Denied", words)
        connect()
        self.refuses(lambda: everyone.emit("hello"), "Error_Denied", words)
        words = "cannot write outside of an event: write while an event is handled"
        self.refuses(lambda: kv.set("key", 1), "Error_Other", words)
        self.refuses(lambda: kv.add("key"), "Error_Denied", words)

    def test_namespace_begins_with_slash(self):
        app.on("elsewhere")(lambda client: everyone.of("admin").emit("hello"))
        words = 'the namespace "admin" does not begin with a slash; write "/admin"'
        self.refuses(lambda: connect().emit("elsewhere"), "Error_Invalid", words)


if __name__ == "__main__":
    unittest.main()
