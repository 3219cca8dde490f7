//! Connects Engine.IO to Socket.IO: opens a connection for each session of the engine, and gives its messages to the protocol.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use engine_io::{CloseReason, Message, Refusal};
use http::Extensions;
use tracing::debug;

use super::access_check::AccessCheck;
use super::address_limits::TooMany;
use super::protocol::Protocol;
use plugnode_message::DisconnectReason;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::{Connection, CurrentIncarnation, Str};
use plugnode_transport::LeaseHealth;

/// The reason of the disconnect of a client that does not read.
const SLOW_READER: &str = "slow reader: what was sent to it was not read";

/// The application that the engine serves.
pub(super) struct Application {
    pub(super) protocol: Arc<Protocol>,
    pub(super) access_check: Arc<AccessCheck>,
    pub(super) incarnation: Arc<CurrentIncarnation>,
    pub(super) lease_health: LeaseHealth,
    pub(super) shutdown: Shutdown,
}

/// Takes the messages of one session.
pub(super) struct SessionHandler {
    protocol: Arc<Protocol>,
    connection: Arc<Connection>,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").finish_non_exhaustive()
    }
}

impl Application {
    /// Whether new sessions are accepted: not if this io-node is about to lose them.
    fn accepts_sessions(&self) -> bool {
        self.incarnation.is_member() && !self.lease_health.is_overdue() && !self.shutdown.has_begun()
    }
}

impl engine_io::Application for Application {
    type Handler = SessionHandler;

    fn open(&self, session: engine_io::Session, _: &Extensions) -> Result<SessionHandler, Refusal> {
        if !self.accepts_sessions() {
            // The client tries again, here or at another io-node.
            return Err(Refusal::Unavailable("this node takes no sessions now".into()));
        }
        let permit = self.access_check.permit(session.opening().peer()).map_err(refusal)?;
        let permit = permit.map(|permit| Box::new(permit) as Box<dyn Any + Send + Sync>);
        let connection = self.protocol.connections.open(session, permit);
        self.protocol.opened(&connection);
        let protocol = self.protocol.clone();
        Ok(SessionHandler { protocol, connection })
    }
}

impl engine_io::Handler for SessionHandler {
    fn expect_messages(&mut self, messages: usize) {
        self.protocol.burst(&self.connection, messages);
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Text(text) => self
                .protocol
                .receive_text(&self.connection, Str::copy_from_slice(&text)),
            Message::Binary(data) => self.protocol.receive_binary(&self.connection, data),
        }
    }

    fn close(self, reason: CloseReason) {
        debug!(session = self.connection.id(), %reason, "disconnected");
        match reason {
            CloseReason::ParseError => metrics::PACKETS_MALFORMED.increment(),
            CloseReason::Overloaded => metrics::SESSIONS_OVERLOADED.increment(),
            CloseReason::Flood => metrics::SESSIONS_FLOODING.increment(),
            CloseReason::SlowReader => metrics::CLIENTS_SLOW.add(self.connection.sockets().len()),
            _ => {}
        }
        self.protocol.closed(&self.connection, &disconnect_reason(reason));
    }
}

/// The reason that apps get.
fn disconnect_reason(reason: CloseReason) -> DisconnectReason {
    match reason {
        CloseReason::Client | CloseReason::TransportClose | CloseReason::Server => DisconnectReason::TransportClose,
        CloseReason::TransportError => DisconnectReason::TransportError,
        CloseReason::PingTimeout => DisconnectReason::PingTimeout,
        CloseReason::ParseError => DisconnectReason::ParseError,
        CloseReason::Shutdown => DisconnectReason::ServerShutdown,
        CloseReason::SlowReader => DisconnectReason::Other(SLOW_READER.into()),
        other => DisconnectReason::Other(other.to_string()),
    }
}

fn refusal(too_many: TooMany) -> Refusal {
    Refusal::TooMany {
        message: too_many.to_string(),
        retry_after: match too_many {
            TooMany::Sessions => None,
            TooMany::Rate(wait) => Some(wait),
        },
    }
}
