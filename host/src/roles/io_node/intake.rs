//! From socket to event, and from there to the transport.
//!
//! socketioxide runs handlers that are async closures in tasks of their own, which reorders one client's events. So its
//! handler traits are implemented here directly: everything happens in the task that reads the connection.

use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::value::RawValue;
use socketioxide::TransportType;
use socketioxide::handler::{ConnectHandler, DisconnectHandler, MessageHandler};
use socketioxide::socket::{DisconnectReason as SocketReason, Socket};
use socketioxide_core::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::args;
use super::clients::{Clients, Member};
use super::door::Door;
use super::session::{Session, Sessions};
use crate::http::Connection;
use crate::message::{DisconnectReason, Event, EventKind, Handshake, SessionId, Text};
use crate::transport::Inbox;

/// How many events are handed to the transport at once.
const BATCH: usize = 512;
/// How long refused events wait before they are offered again.
const PATIENCE: Duration = Duration::from_millis(5);

/// What comes from the sockets.
pub(super) type Events = UnboundedReceiver<(Event, Arc<Session>)>;

/// Tells our handlers from socketioxide's closures.
pub(super) struct Direct;

/// Answers the connections to one namespace.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) clients: Arc<Clients>,
    pub(super) sessions: Arc<Sessions>,
}

impl ConnectHandler<Door, Direct> for Connect {
    /// Before the client hears that it is connected, its handlers are in place: it may speak at once.
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<Door>>,
        _auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        let connection = socket.req_parts().extensions.get::<Arc<Connection>>().cloned();
        let session = self.sessions.of(socket.id, connection);
        let member = Member::new(&self.clients, &socket, session);
        socket.on_fallback(Messages { member: member.clone() });
        socket.on_disconnect(Leave { member: member.clone() });
        socket.extensions.insert(member);
        Box::pin(std::future::ready(Ok(())))
    }

    fn call(&self, socket: Arc<Socket<Door>>, auth: Option<Value>) {
        let member = socket
            .extensions
            .get::<Arc<Member>>()
            .expect("the middleware put it there");
        debug!(client = %member.id, namespace = %self.clients.namespace, "connected");
        member.open(EventKind::Connection(Box::new(handshake(&socket, &member, auth))));
    }
}

struct Messages {
    member: Arc<Member>,
}

impl MessageHandler<Door, Direct> for Messages {
    fn call(&self, _socket: Arc<Socket<Door>>, value: Value, ack: Option<i64>) {
        match args::read_event(value) {
            Ok((event, args)) => {
                let ack = ack.map(|number| self.member.ack_id(number));
                self.member.take_in(EventKind::Message { event, args, ack });
            }
            Err(malformed) => {
                debug!(client = %self.member.id, "closing the connection: malformed event: {malformed}");
                self.member.expel(DisconnectReason::ParseError);
            }
        }
    }
}

struct Leave {
    member: Arc<Member>,
}

impl DisconnectHandler<Door, Direct> for Leave {
    fn call_with_defer(&self, socket: Arc<Socket<Door>>, reason: SocketReason, defer: fn(Arc<Socket<Door>>)) {
        debug!(client = %self.member.id, ?reason, "disconnected");
        self.member.close(match reason {
            SocketReason::TransportClose => DisconnectReason::TransportClose,
            SocketReason::TransportError | SocketReason::MultipleHttpPollingError => DisconnectReason::TransportError,
            SocketReason::PacketParsingError => DisconnectReason::ParseError,
            SocketReason::HeartbeatTimeout => DisconnectReason::PingTimeout,
            SocketReason::ClientNSDisconnect => DisconnectReason::Client,
            SocketReason::ServerNSDisconnect => DisconnectReason::Server,
            SocketReason::ClosingServer => DisconnectReason::ServerShutdown,
        });
        defer(socket);
    }
}

/// Hands events to the transport until `closing`, and then those that are left. What the transport refuses for now is
/// offered again, and each client's later events wait behind.
///
/// # Errors
/// When this io-node was fenced.
pub(super) async fn run(mut events: Events, inbox: Arc<dyn Inbox>, closing: CancellationToken) -> Result<()> {
    let mut fresh = Vec::with_capacity(BATCH);
    let mut held: Vec<(Event, Arc<Session>)> = Vec::new();
    let mut held_clients = HashSet::new();
    let mut offer_again = Instant::now();
    let mut open = true;
    while open || !held.is_empty() {
        tokio::select! {
            () = closing.cancelled(), if !events.is_closed() => events.close(),
            count = events.recv_many(&mut fresh, BATCH), if open => open = count > 0,
            () = sleep_until(offer_again), if !held.is_empty() => {
                held_clients.clear();
                fresh.append(&mut held);
            }
        }
        let mut batch = Vec::with_capacity(fresh.len());
        for (event, session) in fresh.drain(..) {
            match client(&event).is_some_and(|client| held_clients.contains(client)) {
                true => held.push((event, session)),
                false => batch.push((event, session)),
            }
        }
        let refused = offer(batch, &*inbox).await?;
        if !refused.is_empty() {
            offer_again = Instant::now() + PATIENCE;
            held_clients.extend(refused.iter().filter_map(|(event, _)| client(event).cloned()));
            held.extend(refused);
        }
    }
    Ok(())
}

/// Offers events to the transport, lets the sessions of accepted ones know, and returns the refused ones.
async fn offer(batch: Vec<(Event, Arc<Session>)>, inbox: &dyn Inbox) -> Result<Vec<(Event, Arc<Session>)>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut events = Vec::with_capacity(batch.len());
    let mut offered = Vec::with_capacity(batch.len());
    for (event, session) in batch {
        offered.push((client(&event).cloned(), event.size(), session));
        events.push(event);
    }
    let mut refused = inbox.ingest(events).await?;
    let mut again = Vec::with_capacity(refused.len());
    // Refused events keep their order and are the last of their clients, so from the end they are met one by one.
    for (id, size, session) in offered.into_iter().rev() {
        match refused.pop_if(|event| client(event) == id.as_ref()) {
            Some(event) => again.push((event, session)),
            None => session.accepted(size),
        }
    }
    again.reverse();
    Ok(again)
}

fn client(event: &Event) -> Option<&SessionId> {
    event.client.as_ref().map(|client| &client.id)
}

fn handshake(socket: &Socket<Door>, member: &Member, auth: Option<Value>) -> Handshake {
    let request = socket.req_parts();
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    Handshake {
        auth: auth.and_then(|auth| valid_json(auth.as_str()?)),
        query: request.uri.query().unwrap_or_default().to_owned(),
        headers: request.headers.iter().map(header).collect(),
        remote_addr: member.session.peer(),
        transport: match socket.transport_type() {
            TransportType::Polling => Text::from_static("polling"),
            TransportType::Websocket => Text::from_static("websocket"),
        },
        recovered: false,
    }
}

fn valid_json(text: &str) -> Option<Text> {
    serde_json::from_str::<&RawValue>(text)
        .ok()
        .map(|json| Text::from(json.get()))
}
