"""Tests the program in `handlers` with `plugnode.testing`, in plain Python. PYTHONPATH must contain both."""

import unittest

import app  # noqa: F401
import customs  # noqa: F401
import plugnode
import timers  # noqa: F401
from plugnode import testing
from plugnode.testing import Refused, config, connect, custom, fire, reset, stored


class Handlers(unittest.TestCase):
    def setUp(self):
        reset()
        config.clear()

    def test_a_client_is_let_in_with_its_attributes(self):
        ada = connect(auth={"name": "ada"})
        self.assertEqual(ada.attributes, {"name": "ada"})
        self.assertEqual([effect["type"] for effect in ada.effects], ["attributes", "attributes"])
        self.assertEqual(ada.ask("who"), ({"name": "ada"},))
        with self.assertRaises(Refused) as refused:
            connect(auth={"name": "nobody"})
        self.assertEqual((str(refused.exception), refused.exception.data), ("not you", {"code": 7}))
        self.assertEqual(len(connect().received), 0)

    def test_arguments_come_back_as_they_went(self):
        ada = connect()
        for args in [(), (1,), ("é", None, {"🦀": [1.5, True]}), (b"\0\xff", {"deep": [b""]})]:
            self.assertEqual(ada.ask("echo", *args), args if args else ())
            self.assertEqual(ada.take(), [("echo", *args)])

    def test_rooms_and_exceptions_are_kept(self):
        ada, bob, eve = connect(), connect(), connect()
        bob.emit("join", "here")
        self.assertEqual(bob.rooms, {"here"})
        effects = ada.emit("to room", "here", 1)
        self.assertEqual(
            effects[0],
            {"type": "emit", "to": {"rooms": ["here"], "without": [ada.id]}, "event": "in room", "args": [1]},
        )
        self.assertEqual([one.take() for one in (ada, bob, eve)], [[("for you", 1)], [("in room", 1)], [("for others", 1)]])
        self.assertEqual(connect(namespace="/else").take(), [])

    def test_state_is_kept_and_added_to(self):
        ada = connect()
        for number in range(1, 4):
            self.assertEqual(ada.ask("count"), (number,))
        self.assertEqual((stored("counted"), stored("added")), ({"n": 3}, 3))
        self.assertEqual(ada.ask("counted"), (3, 3, ["counted"], True))

    def test_what_fails_has_no_effects(self):
        ada = connect()
        ada.emit("count")
        with self.assertRaises(TypeError):
            ada.emit("fail")
        self.assertEqual((ada.take(), stored("counted")), ([], {"n": 1}))
        with self.assertRaises(plugnode.Retry):
            ada.emit("again")
        self.assertEqual(ada.ask("later"), ("later",))

    def test_questions_are_answered(self):
        ada = connect().answer("question", lambda question: f"{question} yes")
        ada.emit("ask me", "really?")
        self.assertEqual(ada.take(), [("told", "really? yes")])
        bob = connect()
        bob.emit("ask me", "really?")
        self.assertEqual(bob.take(), [("told", None)])

    def test_who_goes_is_gone(self):
        ada, bob = connect(auth={"name": "ada"}), connect()
        ada.disconnect()
        self.assertEqual(bob.take(), [("went", "ada", "client namespace disconnect", [])])
        self.assertFalse(ada.is_connected)
        with self.assertRaises(RuntimeError):
            ada.emit("echo")

    def test_configuration_and_custom_events_come(self):
        config["colour"] = "red"
        self.assertEqual(connect().ask("log"), ({"colour": "red"},))
        self.assertEqual(custom("unknown", {"a": 1}), [])

    def test_custom_event_is_answered(self):
        ada, eve = connect(), connect(namespace="/else")
        self.assertEqual(testing.ask("faulty.count/1", "x"), (1, "x"))
        self.assertEqual(testing.ask("faulty.count/1"), (2, None))
        self.assertEqual((ada.take(), eve.take()), ([("counted", 1), ("counted", 2)], []))
        self.assertEqual((testing.ask("faulty.quiet/1"), testing.ask("unknown/1")), (None, None))
        self.assertEqual(testing.ask("test.echo/1", {"a": None}), ([{"a": None}],))
        effects = custom("test.echo/1", b"\0\xff", "application/octet-stream")
        self.assertEqual(effects, [{"type": "ack", "args": [[b"\0\xff"]]}])
        with self.assertRaisesRegex(RuntimeError, "asked to reject"):
            testing.ask("faulty.reject/1")
        self.assertIsNone(testing.ask("faulty.late/1"))
        self.assertEqual(fire("late"), [{"type": "ack", "args": ["late"]}])

    def test_timer_of_client_fires_once(self):
        ada, bob = connect(), connect()
        ada.emit("timer-after", "client", "late", 60_000, {"a": 1})
        self.assertEqual((ada.timers, bob.timers, testing.timers()), (["late"], [], []))
        ada.emit("timer-after", "client", "late", 60_000, {"a": 2})
        effects = ada.fire("late")
        self.assertEqual([effect["type"] for effect in effects], ["emit", "set"])
        self.assertEqual((ada.take(), bob.take()), ([("due", "late", {"a": 2}, 0)], []))
        with self.assertRaisesRegex(LookupError, "has no timer 'late': its timers are \\[\\]"):
            ada.fire("late")

    def test_periodic_timer_of_app_fires_until_cancelled(self):
        ada, bob, eve = connect(), connect(), connect(namespace="/else")
        ada.emit("timer-every", "app", "tick", 1_000, None)
        fire("tick")
        fire("tick", missed=2)
        self.assertEqual([one.take() for one in (ada, bob)], [[("due", "tick", None, 0), ("due", "tick", None, 2)]] * 2)
        eve.emit("timer-every", "app", "tick", 1_000, "else")
        bob.emit("timer-cancel", "app", "tick")
        self.assertEqual((testing.timers(), testing.timers("/else")), ([], ["tick"]))
        fire("tick", namespace="/else")
        self.assertEqual((bob.take(), eve.take()), ([], [("due", "tick", "else", 0)]))

    def test_disconnect_cancels_timers_of_client(self):
        ada = connect()
        ada.emit("timer-after", "client", "late", 60_000, None)
        ada.disconnect()
        self.assertEqual(ada.timers, [])


if __name__ == "__main__":
    unittest.main()
