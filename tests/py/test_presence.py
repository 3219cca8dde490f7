"""Presence and messages of handlers in `plugnode.testing`. PYTHONPATH must contain `handlers`."""

import unittest

import presence  # noqa: F401
from plugnode.testing import connect, custom, reset


class Presence(unittest.TestCase):
    def setUp(self):
        reset()

    def test_presence_is_that_of_the_clients_of_the_test(self):
        ada, bob = connect(), connect()
        ada.ask("name", "Ada")
        for client in (ada, bob):
            client.ask("join", "room/1")
        self.assertEqual(bob.ask("present", "room/1"), ([2, [[ada.id, "Ada"], [bob.id, None]]],))
        change = {"client": ada.id, "joined": ["room/1"], "left": []}
        custom("plugnode.presence/1", change)
        self.assertEqual(bob.take()[-1], ("presence", change))
        bob.ask("empty", "room/1")
        self.assertEqual(bob.ask("present", "room/1"), ([0, []],))

    def test_messages_of_handlers_are_effects(self):
        effects = connect().emit("order", {"sku": 7})
        sent = [(effect["kind"], effect["data"]) for effect in effects if effect["type"] == "custom"]
        self.assertEqual(sent[0], ("acme.order/1", b'{"sku": 7}'))


if __name__ == "__main__":
    unittest.main()
