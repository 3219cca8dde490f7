//! Counted: from the event of a client to the transport, and from a broadcast to the packets of its recipients. See `plugnode_testing::counted`.

use std::sync::{Arc, Mutex};

use engine_io::{Accepted, CloseReason, Engine, Message, Refusal};
use http::{Extensions, Request};
use tokio::time::Instant;

use super::clients::{Clients, Common};
use super::directory::Directory;
use super::flow::Bounds;
use super::hooks::Hooks;
use super::incarnation::{Events, Gate};
use super::member::Member;
use super::session::{Session, Sessions};
use super::waiting::Waiting;
use plugnode_message::{Audience, Channel, EventKind, Payload, Scope, Selection, Text};
use plugnode_process::pressure::Pressure;
use plugnode_socket_io::{Codec, Encoding};
use plugnode_testing::counted::{io_node, payload};

/// How many clients hear a broadcast.
const AUDIENCE: usize = 500;

/// An io-node's inside without sockets and without a cluster.
struct Inside {
    engine: Engine<Nobody>,
    /// Handshakes whose websockets never come.
    accepted: Vec<Accepted<Nobody>>,
    clients: Arc<Clients>,
    directory: Arc<Directory>,
    events: Events,
}

impl Inside {
    fn new() -> Self {
        let gate = Gate::new();
        let (_, events) = gate.open();
        let common = Arc::new(Common {
            io_node: io_node(),
            codec: Codec::new(Encoding::Json, 1_000),
            gate,
            max_channels: 10.into(),
            hooks: Hooks::default(),
        });
        let bounds = Bounds {
            packets_per_second: 10_000,
            pressure: Pressure::default(),
            waiting: 1 << 20,
            events_per_second: None,
        };
        let settings = engine_io::Settings {
            send_buffer: 1 << 20,
            ..engine_io::Settings::default()
        };
        let nobody = Nobody {
            sessions: Sessions::new(bounds),
            latest: Mutex::default(),
        };
        Self {
            engine: Engine::new(settings, nobody),
            accepted: Vec::new(),
            clients: Clients::new("/chat".into(), None, common.clone()),
            directory: Directory::new(Vec::new(), common).expect("no two are the same"),
            events,
        }
    }

    /// A client that is connected, and whose connection has been heard of.
    fn member(&mut self) -> Arc<Member> {
        let request = Request::get("/socket.io/?EIO=4&transport=websocket")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(());
        let accepted = self.engine.accept(&request.expect("it is a request"));
        self.accepted.push(accepted.expect("it is a handshake"));
        let latest = self.engine.application().latest.lock();
        let session = latest.expect("nothing panics").take().expect("it has begun");
        let connection = EventKind::Connection(Box::new(session.handshake(None)));
        let member = Member::new(&self.clients, &self.directory, &session, Text::from_static("{}"));
        member.enter(connection);
        let taken = self.events.try_recv().expect("it has connected");
        taken.source.went_on(taken.event.size());
        member
    }
}

/// Has sessions, and hears nothing.
struct Nobody {
    sessions: Arc<Sessions>,
    latest: Mutex<Option<Arc<Session>>>,
}

struct Deaf;

impl engine_io::Application for Nobody {
    type Handler = Deaf;

    fn open(&self, connection: engine_io::Session, _: &Extensions) -> Result<Deaf, Refusal> {
        *self.latest.lock().expect("nothing panics") = Some(self.sessions.begin(connection, None));
        Ok(Deaf)
    }
}

impl engine_io::Handler for Deaf {
    fn message(&mut self, _: Message) {}

    fn close(self, _: CloseReason) {}
}

#[test]
fn events_that_clients_send() {
    let mut inside = Inside::new();
    let member = inside.member();
    let payloads: Vec<Payload> = (0..256).map(payload).collect();
    let offered = counted_events_that_clients_send(&mut inside.events, &member, payloads);
    assert_eq!(offered, 256);
}

#[inline(never)]
fn counted_events_that_clients_send(events: &mut Events, member: &Arc<Member>, payloads: Vec<Payload>) -> usize {
    let mut waiting = Waiting::default();
    let since = Instant::now();
    for (number, args) in (0..).zip(payloads) {
        member.take_in(Text::from_static("say"), args, Some(number));
    }
    while let Ok(taken) = events.try_recv() {
        waiting.push(taken, since);
    }
    let batch = waiting.offer();
    for taken in &batch {
        taken.source.went_on(taken.event.size());
    }
    waiting.offered(Vec::new());
    batch.len()
}

#[test]
fn a_broadcast_to_a_channel() {
    let mut inside = Inside::new();
    let lobby = Channel::from("lobby");
    let members: Vec<Arc<Member>> = (0..AUDIENCE).map(|_| inside.member()).collect();
    for member in &members {
        let subscribed = inside.clients.subscribe(&member.id, std::slice::from_ref(&lobby));
        assert!(subscribed.is_ok(), "it is the first channel");
    }
    let to = Audience {
        namespace: "/chat".into(),
        to: Scope::Only(Selection {
            clients: Vec::new(),
            channels: vec![lobby],
        }),
        except: Selection::default(),
    };
    let heard = counted_a_broadcast_to_a_channel(&inside.clients, &to, &payload(0));
    assert_eq!(heard, 8 * AUDIENCE);
}

#[inline(never)]
fn counted_a_broadcast_to_a_channel(clients: &Clients, to: &Audience, args: &Payload) -> usize {
    let mut heard = 0;
    for _ in 0..8 {
        let audience = clients.audience(to);
        let packet = clients.common.codec.event(&to.namespace, "said", args, None);
        for member in audience {
            member.push(packet.clone());
            heard += 1;
        }
    }
    heard
}
