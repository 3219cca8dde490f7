//! Where Engine.IO meets Socket.IO: takes the engine's sessions in, and gives the protocol what their clients send.

use std::fmt;
use std::sync::Arc;

use engine_io::{CloseReason, Message, Refusal};
use http::Extensions;
use tracing::debug;

use super::entrance::Entrance;
use super::incarnation::Gate;
use super::limits::TooMany;
use super::protocol::Protocol;
use super::session::Session;
use plugnode_message::DisconnectReason;
use plugnode_process::counts;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::Str;
use plugnode_transport::Standing;

/// Why a client is disconnected that does not read.
const SLOW_READER: &str = "slow reader: what was sent to it was not read";

/// What the engine serves.
pub(super) struct Application {
    pub(super) protocol: Arc<Protocol>,
    pub(super) entrance: Arc<Entrance>,
    pub(super) gate: Arc<Gate>,
    pub(super) standing: Standing,
    pub(super) shutdown: Shutdown,
}

/// What hears the client of one session.
pub(super) struct Listener {
    protocol: Arc<Protocol>,
    session: Arc<Session>,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").finish_non_exhaustive()
    }
}

impl Application {
    /// Whether new sessions are taken. What an io-node is about to lose it does not begin.
    fn takes_sessions(&self) -> bool {
        self.gate.is_open() && !self.standing.is_overdue() && !self.shutdown.has_begun()
    }
}

impl engine_io::Application for Application {
    type Handler = Listener;

    fn open(&self, connection: engine_io::Session, _: &Extensions) -> Result<Listener, Refusal> {
        if !self.takes_sessions() {
            // What this io-node cannot do now, it or another soon can.
            return Err(Refusal::Unavailable("this node takes no sessions now".into()));
        }
        let place = self.entrance.take_place(connection.opening().peer()).map_err(refusal)?;
        let session = self.protocol.sessions.begin(connection, place);
        self.protocol.begin(&session);
        let protocol = self.protocol.clone();
        Ok(Listener { protocol, session })
    }
}

impl engine_io::Handler for Listener {
    fn burst(&mut self, messages: usize) {
        self.protocol.expect(&self.session, messages);
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.protocol.hear_text(&self.session, Str::copy_from_slice(&text)),
            Message::Binary(data) => self.protocol.hear_binary(&self.session, data),
        }
    }

    fn close(self, reason: CloseReason) {
        debug!(session = self.session.id(), "disconnected: {reason}");
        match reason {
            CloseReason::ParseError => counts::PACKETS_MALFORMED.one(),
            CloseReason::Overloaded => counts::SESSIONS_OVERLOADED.one(),
            CloseReason::Flood => counts::SESSIONS_FLOODING.one(),
            CloseReason::SlowReader => counts::CLIENTS_SLOW.add(self.session.all().len()),
            _ => {}
        }
        self.protocol.end(&self.session, &told(reason));
    }
}

/// What the apps are told of the end of a session.
fn told(reason: CloseReason) -> DisconnectReason {
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
            TooMany::Clients => None,
            TooMany::Connects(wait) => Some(wait),
        },
    }
}
