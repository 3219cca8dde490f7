"""api_client.py API,API KEY URL: the package plugnode_emitter calls the server API of nodes, and a python-socketio client of URL receives. The
program customs.js must serve `/` and `/chat`, with presence of the channel `seats`."""

import http.client
import http.server
import sys
import threading
import time
import unittest

from client import Person, equal
from plugnode_emitter import Emitter, EmitterError

APIS, KEY, URL = sys.argv[1].split(","), sys.argv[2], sys.argv[3]


class Lossy(http.server.BaseHTTPRequestHandler):
    """Passes requests on, and answers only those after the second."""

    protocol_version = "HTTP/1.1"
    keys: list[str] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        passed = http.client.HTTPConnection(APIS[0].removeprefix("http://"))
        passed.request("POST", self.path, body, dict(self.headers))
        answer = passed.getresponse().read()
        self.keys.append(self.headers["Idempotency-Key"])
        if len(self.keys) == 1:
            self.close_connection = True
            return
        self.send_response(503 if len(self.keys) == 2 else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Api(unittest.TestCase):
    def setUp(self):
        self.emitter = Emitter(APIS, KEY)
        self.addCleanup(self.emitter.close)

    def person(self, namespace="/"):
        person = Person(URL, ["websocket"], namespaces=[namespace])
        self.addCleanup(person.client.disconnect)
        if namespace == "/":
            # A client is found by its id once the transport has accepted its connection, which an answer of the handler shows.
            person.client.call("ready")
        return person, person.client.get_sid(namespace)

    def test_event_reaches_all_clients_of_namespace(self):
        (ada, _), (eve, _) = self.person(), self.person("/chat")
        args = [1, "two", {"three": [True, None, 3.5, "ü"]}]
        done = self.emitter.emit("n", *args)
        self.assertFalse(done.repeated)
        self.emitter.of("chat").emit("n", b"\0\xff", [-7, 1 << 40, {"deep": b"x"}])
        equal(ada.next("n"), args)
        equal(eve.next("n", "/chat"), [b"\0\xff", [-7, 1 << 40, {"deep": b"x"}]])

    def test_rooms_select_clients(self):
        (ada, ada_id), (bob, bob_id) = self.person(), self.person()
        self.emitter.client(ada_id).sockets_join("a", "b")
        [socket] = self.emitter.client(ada_id).fetch_sockets()
        self.assertEqual((socket.id, socket.rooms), (ada_id, {ada_id, "a", "b"}))
        self.emitter.to("a").emit("n", 1)
        equal(ada.next("n"), [1])
        self.emitter.to("a", bob_id).except_(ada_id).volatile.emit("n", 2)
        equal(bob.next("n"), [2])
        socket.socket.sockets_leave("b")
        self.assertEqual(self.emitter.client(ada_id).find(most=0).count, 1)
        self.assertEqual(self.emitter.client(ada_id).fetch_sockets()[0].rooms, {ada_id, "a"})
        self.emitter.to(ada_id).disconnect_sockets()
        ada.next("disconnect")
        self.assertEqual(ada.count("n"), 0)

    def test_batch_is_in_order(self):
        ada, ada_id = self.person()
        with self.emitter.batch() as batch:
            for number in range(250):
                batch.client(ada_id).emit("n", number, *([b"x"] if number % 100 == 7 else []))
            batch.of("/chat").to("none").emit("n")
        for number in range(250):
            equal(ada.next("n")[0], number)
        with self.assertRaises(KeyError), self.emitter.batch() as batch:
            batch.emit("never")
            raise KeyError
        self.emitter.emit("last")
        ada.next("last")
        self.assertEqual(ada.count("never"), 0)

    def test_presence_is_read(self):
        _, ada_id = self.person()
        self.emitter.client(ada_id).sockets_join("seats")
        until = time.monotonic() + 10
        while ada_id not in (members := {member.id: member for member in self.emitter.presence("/", "seats")}):
            self.assertLess(time.monotonic(), until, members)
        self.assertAlmostEqual(members[ada_id].since, time.time(), delta=20)

    def test_handler_answers_event(self):
        self.assertEqual(self.emitter.event("/", "test.echo/1", {"a": ["ü", None]}).args, [[{"a": ["ü", None]}]])
        self.assertEqual(self.emitter.event("chat", "test.echo/1", b"\0\xff").args, [[b"\0\xff"]])
        self.assertIsNone(self.emitter.event("/", "test.quiet/1").args)
        self.assertEqual(self.emitter.event("/", "faulty.late/1", wait="acknowledged").args, ["late"])
        once = self.emitter.event("/", "faulty.count/1", 1, idempotency_key="py")
        again = self.emitter.event("/", "faulty.count/1", 1, idempotency_key="py")
        self.assertEqual((again.args, again.repeated), (once.args, True))
        with self.assertRaises(EmitterError) as failed:
            self.emitter.event("/", "faulty.reject/1")
        self.assertEqual((failed.exception.status, failed.exception.type), (502, "urn:plugnode:api:handler-failed"))

    def test_lost_answer_is_repeated_once(self):
        ada, _ = self.person()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lossy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Emitter(f"http://127.0.0.1:{server.server_port}", KEY) as emitter:
            self.assertTrue(emitter.emit("n", 1).repeated)
            self.assertEqual((len(Lossy.keys), len(set(Lossy.keys))), (3, 1))
            emitter.emit("n", 2)
        server.shutdown()
        server.server_close()
        equal([ada.next("n"), ada.next("n")], [[1], [2]])

    def test_another_node_is_called(self):
        ada, _ = self.person()
        with Emitter(["http://127.0.0.1:9", *APIS], KEY) as emitter:
            emitter.emit("n", 1)
            emitter.emit("n", 2)
        equal([ada.next("n"), ada.next("n")], [[1], [2]])
        with self.assertRaisesRegex(EmitterError, "no answer of the server API") as away:
            Emitter("http://127.0.0.1:9", KEY, timeout=0.2).emit("n")
        self.assertEqual((away.exception.status, len(away.exception.idempotency_key)), (None, 36))

    def test_threads_share_an_emitter(self):
        ada, _ = self.person()
        emits = lambda: [self.emitter.emit("n", number) for number in range(10)]  # noqa: E731
        threads = [threading.Thread(target=emits) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(ada.next("n")[0] for _ in range(40)), sorted(list(range(10)) * 4))

    def test_refusals_are_errors(self):
        with self.assertRaises(EmitterError) as refused:
            self.emitter.emit("disconnect")
        self.assertEqual((refused.exception.status, refused.exception.field), (422, "event"))
        with self.assertRaises(EmitterError) as refused:
            Emitter(APIS, "x" * 32).emit("n")
        self.assertEqual(refused.exception.status, 401)
        with self.assertRaises(TypeError):
            self.emitter.emit("n", object())
        with self.assertRaises(ValueError):
            Emitter("nowhere", KEY)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
