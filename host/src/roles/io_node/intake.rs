//! From socket to event, and from there to the transport.
//!
//! socketioxide runs handlers that are async closures in tasks of their own, which reorders one client's events. So its
//! handler traits are implemented here directly: everything happens in the task that reads the connection.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use socketioxide::handler::{ConnectHandler, DisconnectHandler, MessageHandler};
use socketioxide::socket::{DisconnectReason as SocketReason, Socket};
use socketioxide_core::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::args;
use super::clients::{Clients, Member};
use super::door::Door;
use super::incarnation::{Events, Incarnation};
use super::opening::Opening;
use super::session::Sessions;
use super::waiting::{BATCH, Taken, Waiting};
use crate::counts;
use crate::message::{DisconnectReason, Event, EventKind, Handshake, SessionId, Text};
use crate::transport::{Inbox, Result};

/// How long between two looks at what waits for too long: a tenth of what is too long, and within these.
const LEAST_LOOK: Duration = Duration::from_millis(5);
const MOST_LOOK: Duration = Duration::from_millis(500);

/// Whether a client may connect, and if not, why.
type Accepted = std::result::Result<(), Box<dyn Display + Send>>;

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
    ) -> Pin<Box<dyn Future<Output = Accepted> + Send + 'a>> {
        let opening = opening(&socket);
        let session = self
            .sessions
            .of(socket.id, opening.connection(), opening.is_websocket());
        let member = Member::new(&self.clients, socket.id, Arc::downgrade(&socket), session);
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
        member.open(EventKind::Connection(Box::new(handshake(&socket, auth))));
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
                self.member.expel_malformed();
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
            SocketReason::PacketParsingError => {
                counts::PACKETS_MALFORMED.one();
                DisconnectReason::ParseError
            }
            SocketReason::HeartbeatTimeout => DisconnectReason::PingTimeout,
            SocketReason::ClientNSDisconnect => DisconnectReason::Client,
            SocketReason::ServerNSDisconnect => DisconnectReason::Server,
            SocketReason::ClosingServer => DisconnectReason::ServerShutdown,
        });
        defer(socket);
    }
}

/// Hands events to the transport until `closing`, and then those that are left. What waits to be accepted for longer
/// than `refuse_after` is refused to its client where that can be told.
///
/// One call of the transport is under way at a time and is heard to its end, also when the incarnation is over by then:
/// what becomes of events that were offered is not known before.
///
/// # Errors
/// When this io-node was fenced, or the transport cannot go on.
pub(super) async fn run(
    mut events: Events,
    inbox: Arc<dyn Inbox>,
    refuse_after: Duration,
    incarnation: &Incarnation,
    closing: CancellationToken,
) -> Result<()> {
    let look = (refuse_after / 10).clamp(LEAST_LOOK, MOST_LOOK);
    let mut look_at = Instant::now() + look;
    let mut fresh = Vec::with_capacity(BATCH);
    let mut waiting = Waiting::default();
    let mut offering: Option<BoxFuture<'static, Result<Vec<Taken>>>> = None;
    let mut open = true;
    while open || !waiting.is_empty() || offering.is_some() {
        let next_offer = waiting.next_offer().filter(|_| offering.is_none());
        tokio::select! {
            () = incarnation.over() => break,
            () = closing.cancelled(), if !events.is_closed() => events.close(),
            count = events.recv_many(&mut fresh, BATCH), if open => {
                open = count > 0;
                fresh.drain(..).for_each(|taken| waiting.push(taken));
            }
            refused = async { offering.as_mut().expect("guarded").await }, if offering.is_some() => {
                offering = None;
                waiting.offered(refused?);
            }
            () = async { sleep_until(next_offer.expect("guarded")).await }, if next_offer.is_some() => {
                let batch = waiting.offer();
                if !batch.is_empty() {
                    offering = Some(Box::pin(offer(batch, inbox.clone())));
                }
            }
            () = sleep_until(look_at), if !waiting.is_empty() => {
                waiting.refuse(refuse_after);
                look_at = Instant::now() + look;
            }
        }
    }
    if let Some(offering) = offering {
        offering.await?;
    }
    Ok(())
}

/// Offers events to the transport, lets the sessions of accepted ones know, and returns the refused ones.
async fn offer(batch: Vec<Taken>, inbox: Arc<dyn Inbox>) -> Result<Vec<Taken>> {
    let mut events = Vec::with_capacity(batch.len());
    let mut offered = Vec::with_capacity(batch.len());
    for Taken { event, member, since } in batch {
        offered.push((client(&event).cloned(), event.size(), member, since));
        events.push(event);
    }
    let mut refused = inbox.ingest(events).await?;
    counts::EVENTS_ACCEPTED.add(offered.len() - refused.len());
    let mut again = Vec::with_capacity(refused.len());
    // Refused events keep their order and are the last of their clients, so from the end they are met one by one.
    for (id, size, member, since) in offered.into_iter().rev() {
        match refused.pop_if(|event| client(event) == id.as_ref()) {
            Some(event) => again.push(Taken { event, member, since }),
            None => member.session.went_on(size),
        }
    }
    again.reverse();
    Ok(again)
}

fn client(event: &Event) -> Option<&SessionId> {
    event.client.as_ref().map(|client| &client.id)
}

fn handshake(socket: &Socket<Door>, auth: Option<Value>) -> Handshake {
    let auth = auth.and_then(|auth| valid_json(auth.as_str()?));
    opening(socket).handshake(auth)
}

fn opening(socket: &Socket<Door>) -> &Arc<Opening> {
    let opening = socket.req_parts().extensions.get();
    opening.expect("the service puts it into each request that opens a session")
}

fn valid_json(text: &str) -> Option<Text> {
    serde_json::from_str::<&RawValue>(text)
        .ok()
        .map(|json| Text::from(json.get()))
}
