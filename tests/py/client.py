"""client.py URL[,URL…]: python-socketio's client against the configuration `main` of the handler `conformance`.

With several URLs, of io-nodes that are one cluster, clients that speak with each other are on different ones. Prints a line for each case,
and ends with a non-zero exit code when one failed.
"""

import queue
import sys
import time
import traceback

import socketio

LIMIT = 10
# The configuration's ping time-out is 200 ms, which a busy machine may exceed: a failing case is tried again.
TRIES = 3
TRANSPORTS = {
    "polling, upgraded": ["polling", "websocket"],
    "websocket": ["websocket"],
    "polling": ["polling"],
}

CASES = {}


def case(function):
    """Registers a case for each transport; its docstring is its name."""
    for name, transports in TRANSPORTS.items():
        CASES[f"{name}: {function.__doc__.strip()}"] = (function, transports)
    return function


class Person:
    """A client with a queue of its events: python-socketio calls handlers in separate threads."""

    opened = []

    def __init__(self, url, transports, namespaces=("/",), auth=None):
        self.client = socketio.Client(reconnection=False, handle_sigint=False)
        self.heard = {}
        for namespace in namespaces:
            self.client.on("*", self._hear(namespace), namespace=namespace)
            # The catch-all handler is not called for these.
            for event in ["connect_error", "disconnect"]:
                self.client.on(event, self._hear_one(event, namespace), namespace=namespace)
        Person.opened.append(self)
        self.client.connect(url, auth=auth, transports=list(transports), namespaces=list(namespaces), wait_timeout=LIMIT)

    def _queue(self, event, namespace):
        return self.heard.setdefault((namespace, event), queue.Queue())

    def _hear(self, namespace):
        return lambda event, *args: self._queue(event, namespace).put(list(args))

    def _hear_one(self, event, namespace):
        return lambda what: self._queue(event, namespace).put([what])

    def next(self, event, namespace="/"):
        """The arguments of the next event with this name."""
        try:
            return self._queue(event, namespace).get(timeout=LIMIT)
        except queue.Empty:
            raise AssertionError(f"`{event}` was not heard in {LIMIT} s") from None

    def count(self, event, namespace="/"):
        return self._queue(event, namespace).qsize()

    def emit(self, event, *args, namespace="/"):
        self.client.emit(event, args, namespace=namespace)

    def call(self, event, *args, namespace="/"):
        """Emits and waits for the acknowledgement: none, its argument, or all of them."""
        return self.client.call(event, args, namespace=namespace, timeout=LIMIT)


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


@case
def is_greeted(urls, by):
    """receives its `auth` back at its connection"""
    for auth, heard in [(None, {}), ({"token": "123", "list": [1, None, "ü"]}, {"token": "123", "list": [1, None, "ü"]})]:
        person = Person(urls[0], by, auth=auth)
        equal(person.next("auth"), [heard])
        equal(person.client.transport(), by[-1])


@case
def hears_itself(urls, by):
    """echoes arguments"""
    person = Person(urls[0], by)
    for args in [
        [],
        ["text"],
        [1, "2", {"3": [True, None, 1.5]}],
        ["てすと 🦀 \u2028", "", "tab\tline\nnul\u0000 quote\" back\\slash"],
        [[], {}, [[{}]]],
        list(range(50)),
    ]:
        person.emit("message", *args)
        equal(person.next("message-back"), args)


@case
def hears_its_bytes(urls, by):
    """echoes binary at any depth"""
    person = Person(urls[0], by)
    for args in [
        [b"bytes"],
        [bytes(range(256)), "between", b""],
        [{"file": {"name": "a.bin", "body": b"\x00\xff"}, "rest": ["x", [b"\x01"]]}],
        [b"\x07" * 200_000],
    ]:
        person.emit("message", *args)
        equal(person.next("message-back"), args)


@case
def is_acknowledged(urls, by):
    """gets acknowledgements with its arguments"""
    person = Person(urls[0], by)
    equal(person.call("message-with-ack"), None)
    for value in ["text", 0, False, {"nested": [1]}, b"bytes", {"deep": [b"\x00"]}]:
        equal(person.call("message-with-ack", value), value)
    equal(person.call("message-with-ack", 1, "2", b"3"), (1, "2", b"3"))


@case
def is_in_two_namespaces(urls, by):
    """joins two namespaces with different ids"""
    person = Person(urls[0], by, namespaces=("/", "/custom"), auth={"a": "b"})
    for namespace in ["/", "/custom"]:
        equal(person.next("auth", namespace), [{"a": "b"}])
        person.emit("message", namespace, namespace=namespace)
        equal(person.next("message-back", namespace), [namespace])
        equal(person.call("message-with-ack", namespace, namespace=namespace), namespace)
    ids = {person.client.get_sid("/"), person.client.get_sid("/custom"), person.client.eio.sid}
    equal(len(ids), 3)


@case
def is_refused(urls, by):
    """is refused by an unknown namespace"""
    try:
        Person(urls[0], by, namespaces=("/nowhere",))
    except socketio.exceptions.ConnectionError:
        equal(Person.opened[-1].next("connect_error", "/nowhere"), [{"message": "Invalid namespace"}])
    else:
        raise AssertionError("it was not refused")


@case
def is_heard_in_a_room(urls, by):
    """reaches the other members of a room"""
    here, there, outside = (Person(urls[n % len(urls)], by) for n in range(3))
    equal(here.call("join", "room"), True)
    equal(there.call("join", "room"), True)
    for words in ["hello", {"file": b"bytes"}, None, [1, 2]]:
        here.emit("say", "room", words)
        equal(there.next("said"), [words])
    there.emit("say", "room", "and back")
    equal(here.next("said"), ["and back"])
    equal(outside.call("message-with-ack", "fence"), "fence")
    equal([here.count("said"), there.count("said"), outside.count("said")], [0, 0, 0])


@case
def leaves_a_room(urls, by):
    """receives nothing of a room that it left"""
    here, there = (Person(urls[n % len(urls)], by) for n in range(2))
    for person in [here, there]:
        equal(person.call("join", "room"), True)
    here.emit("say", "room", "first")
    equal(there.next("said"), ["first"])
    equal(there.call("leave", "room"), True)
    here.emit("say", "room", "second")
    # A broadcast is sent later on the same path.
    here.emit("shout", "third")
    equal(there.next("shouted"), ["third"])
    equal(there.count("said"), 0)


@case
def shouts(urls, by):
    """broadcasts to all others"""
    people = [Person(urls[n % len(urls)], by) for n in range(4)]
    for person in people:
        person.call("message-with-ack")
    people[0].emit("shout", {"to": "all", "file": b"bytes"})
    for person in people[1:]:
        equal(person.next("shouted"), [{"to": "all", "file": b"bytes"}])
    equal(people[0].call("message-with-ack", "fence"), "fence")
    equal(people[0].count("shouted"), 0)


@case
def is_kicked(urls, by):
    """is disconnected by the server and can reconnect"""
    person = Person(urls[0], by)
    person.emit("kick-me")
    equal(person.next("disconnect"), [socketio.Client.reason.SERVER_DISCONNECT])
    again = Person(urls[0], by)
    equal(again.call("message-with-ack", "again"), "again")


@case
def leaves(urls, by):
    """leaves without affecting the others"""
    stays, goes = (Person(urls[n % len(urls)], by) for n in range(2))
    goes.client.disconnect()
    equal(goes.next("disconnect"), [socketio.Client.reason.CLIENT_DISCONNECT])
    equal(stays.call("message-with-ack", "here"), "here")


@case
def stays(urls, by):
    """stays connected by answering pings"""
    person = Person(urls[0], by)
    time.sleep(2)
    equal(person.call("message-with-ack", "still here"), "still here")
    equal(person.count("disconnect"), 0)


def attempt(name, function, urls, by):
    """None when the case passed, else the last error."""
    for number in range(1, TRIES + 1):
        start = time.monotonic()
        try:
            function(urls, by)
            again = "" if number == 1 else f", at try {number}"
            print(f"ok      {name} ({(time.monotonic() - start) * 1000:.0f} ms{again})", flush=True)
            return None
        except Exception as error:  # Whatever went wrong is what is to be told.
            word = "again " if number < TRIES else "FAILED"
            print(f"{word}  {name}: {error}", flush=True)
            failure = f"FAILED {name}: {traceback.format_exc()}"
        finally:
            for person in Person.opened:
                person.client.shutdown()
            Person.opened.clear()
    return failure


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: client.py URL[,URL…]")
    urls = sys.argv[1].split(",")
    failures = [attempt(name, function, urls, by) for name, (function, by) in CASES.items()]
    failures = [failure for failure in failures if failure]
    if failures:
        sys.exit("\n".join(failures) + f"\n{len(failures)} of {len(CASES)} cases failed")
    print(f"all {len(CASES)} cases passed")


if __name__ == "__main__":
    main()
