//! Instruction counts: from a client's event to the transport, and from a broadcast to the packets of its recipients. See
//! `plugnode_testing::counted`.

use std::sync::{Arc, Mutex};

use engine_io::{AcceptedHandshake, CloseReason, Engine, Message, Refusal};
use http::{Extensions, Request};

use super::pending_events::PendingEvents;
use plugnode_message::{Audience, Channel, Payload, Scope, Selection, Text};
use plugnode_process::MemoryPressure;
use plugnode_socket_io::{
    AppNamespace, Arrivals, Codec, Connection, ConnectionLimits, Connections, CurrentIncarnation, Encoding,
    NamespaceRegistry, NamespaceSockets, Socket, SocketContext,
};
use plugnode_testing::counted::{io_node, payload};

/// The recipients of the broadcast.
const AUDIENCE: usize = 500;

/// An io-node without network and without cluster.
struct TestNode {
    engine: Engine<Silent>,
    /// Handshakes whose websockets never open.
    accepted: Vec<AcceptedHandshake<Silent>>,
    namespaces: Arc<NamespaceRegistry<Socket>>,
    arrivals: Arrivals,
}

impl TestNode {
    fn new() -> Self {
        let incarnation = CurrentIncarnation::none();
        let (_, arrivals) = incarnation.begin(Box::new(|_| true));
        let context = Arc::new(SocketContext {
            io_node: io_node(),
            codec: Codec::new(Encoding::Json, 1_000),
            incarnation,
            max_rooms: 10.into(),
        });
        let limits = ConnectionLimits {
            packets_per_second: 10_000,
            pressure: MemoryPressure::default(),
            waiting_bytes: 1 << 20,
            events_per_second: None,
        };
        let app = AppNamespace {
            namespace: "/chat".into(),
            admission: None,
            presence: Default::default(),
        };
        let settings = engine_io::Settings {
            send_buffer: 1 << 20,
            ..engine_io::Settings::default()
        };
        let silent = Silent {
            connections: Connections::new(limits),
            latest: Mutex::default(),
        };
        Self {
            engine: Engine::new(settings, silent),
            accepted: Vec::new(),
            namespaces: NamespaceRegistry::new(vec![app], context).expect("a valid namespace"),
            arrivals,
        }
    }

    /// A socket that is connected, and whose connection event was accepted.
    fn socket(&mut self) -> Arc<Socket> {
        let request = Request::get("/socket.io/?EIO=4&transport=websocket")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(());
        let accepted = self.engine.accept(&request.expect("a valid request"));
        self.accepted.push(accepted.expect("a valid handshake"));
        let latest = self.engine.application().latest.lock();
        let connection = latest.expect("nothing panics").take().expect("an open connection");
        let (handshake, attributes) = (connection.handshake(None), Text::from_static("{}"));
        let socket = Socket::connect(&self.namespaces, "/chat", &connection, handshake, attributes);
        let arrival = self.arrivals.try_recv().expect("a connection event");
        arrival.source.event_left(arrival.event.size());
        socket.expect("an app is bound to the namespace")
    }
}

/// Opens connections and ignores their messages.
struct Silent {
    connections: Arc<Connections<Socket>>,
    latest: Mutex<Option<Arc<Connection>>>,
}

struct Ignore;

impl engine_io::Application for Silent {
    type Handler = Ignore;

    fn open(&self, session: engine_io::Session, _: &Extensions) -> Result<Ignore, Refusal> {
        *self.latest.lock().expect("nothing panics") = Some(self.connections.open(session, None));
        Ok(Ignore)
    }
}

impl engine_io::Handler for Ignore {
    fn message(&mut self, _: Message) {}

    fn close(self, _: CloseReason) {}
}

#[test]
fn events_that_clients_send() {
    let mut node = TestNode::new();
    let socket = node.socket();
    let payloads: Vec<Payload> = (0..256).map(payload).collect();
    let offered = counted_events_that_clients_send(&mut node.arrivals, &socket, payloads);
    assert_eq!(offered, 256);
}

#[inline(never)]
fn counted_events_that_clients_send(arrivals: &mut Arrivals, socket: &Arc<Socket>, payloads: Vec<Payload>) -> usize {
    let mut pending = PendingEvents::default();
    for (number, args) in (0..).zip(payloads) {
        socket.receive_event(Text::from_static("say"), args, Some(number));
    }
    while let Ok(event) = arrivals.try_recv() {
        pending.push(event);
    }
    let batch = pending.offer();
    for event in &batch {
        event.source.event_left(event.event.size());
    }
    pending.offered(Vec::new());
    batch.len()
}

#[test]
fn a_broadcast_to_a_channel() {
    let mut node = TestNode::new();
    let lobby = Channel::from("lobby");
    let sockets: Vec<Arc<Socket>> = (0..AUDIENCE).map(|_| node.socket()).collect();
    for socket in &sockets {
        let joined = socket.namespace.join_rooms(&socket.id, std::slice::from_ref(&lobby));
        assert!(joined.is_ok(), "the first room");
    }
    let to = Audience {
        namespace: "/chat".into(),
        to: Scope::Only(Selection {
            clients: Vec::new(),
            channels: vec![lobby],
        }),
        except: Selection::default(),
    };
    let heard = counted_a_broadcast_to_a_channel(&sockets[0].namespace, &to, &payload(0));
    assert_eq!(heard, 8 * AUDIENCE);
}

#[inline(never)]
fn counted_a_broadcast_to_a_channel(sockets: &NamespaceSockets<Socket>, to: &Audience, args: &Payload) -> usize {
    let mut heard = 0;
    for _ in 0..8 {
        let audience = sockets.audience(to);
        let packet = sockets.context.codec.event(&to.namespace, "said", args, None);
        for socket in audience {
            socket.send(packet.clone());
            heard += 1;
        }
    }
    heard
}
