//! The protocol of Socket.IO over the sessions of Engine.IO: who connects to which namespace, and what comes from whom.
//!
//! Everything happens in the task that reads the connection, so that what a client sends keeps its order. The protocol:
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::handler::EngineIoHandler;
use engineioxide::{DisconnectReason as EngineReason, Socket, Str};
use tokio::time::sleep;
use tracing::debug;

use super::args::{self, Malformed};
use super::clients::Common;
use super::codec::{Content, Incoming, Revision};
use super::directory::Directory;
use super::member::Member;
use super::opening::Opening;
use super::session::{Seat, Session, Sessions};
use crate::counts;
use crate::message::{DisconnectReason, EventKind, Refusal, Text};

/// What socketioxide and Node's server say, too.
const UNKNOWN_NAMESPACE: &str = "Invalid namespace";

/// Answers what clients send.
pub struct Protocol {
    pub(super) common: Arc<Common>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) directory: Arc<Directory>,
    /// How long a session has to enter a namespace.
    pub(super) connect_timeout: Duration,
    /// Whether clients of Socket.IO 2 are taken.
    pub(super) takes_v4: bool,
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol").finish_non_exhaustive()
    }
}

impl EngineIoHandler for Protocol {
    type Data = Seat;

    fn on_connect(self: Arc<Self>, socket: Arc<Socket<Seat>>) {
        let opening = socket.req_parts.extensions.get::<Arc<Opening>>();
        let opening = opening.expect("the service puts it into each request that opens a session");
        let session = self.sessions.begin(&socket, opening.clone());
        socket.data.take(session.clone());
        match session.revision {
            Revision::V5 => self.expect_entry(&session),
            Revision::V4 if !self.takes_v4 => session.hang_up(),
            // Of these every client is in the main namespace.
            Revision::V4 => self.enter(&session, "/", None),
        }
    }

    fn on_disconnect(&self, socket: Arc<Socket<Seat>>, reason: EngineReason) {
        let Some(session) = socket.data.session() else { return };
        debug!(session = %session.id, ?reason, "disconnected");
        if reason == EngineReason::PacketParsingError {
            counts::PACKETS_MALFORMED.one();
        }
        let reason = match reason {
            EngineReason::TransportClose => DisconnectReason::TransportClose,
            EngineReason::TransportError | EngineReason::MultipleHttpPollingError => DisconnectReason::TransportError,
            EngineReason::PacketParsingError => DisconnectReason::ParseError,
            EngineReason::HeartbeatTimeout => DisconnectReason::PingTimeout,
            EngineReason::ClosingServer => DisconnectReason::ServerShutdown,
        };
        for member in session.end() {
            member.close(reason.clone());
        }
    }

    fn on_message(self: &Arc<Self>, text: Str, socket: Arc<Socket<Seat>>) {
        let Some(session) = socket.data.session() else { return };
        let read = self.common.codec.read_text(&session.unfinished, text);
        self.take_in(session, read);
    }

    fn on_binary(self: &Arc<Self>, data: Bytes, socket: Arc<Socket<Seat>>) {
        let Some(session) = socket.data.session() else { return };
        let read = self.common.codec.read_binary(&session.unfinished, data);
        self.take_in(session, read);
    }
}

impl Protocol {
    fn take_in(self: &Arc<Self>, session: &Arc<Session>, read: Result<Option<Incoming>, Malformed>) {
        let done = match read {
            Ok(None) => Ok(()),
            Ok(Some(incoming)) => self.act(session, incoming),
            Err(malformed) => Err(malformed),
        };
        if let Err(malformed) = done {
            debug!(session = %session.id, "closing the connection: {malformed}");
            counts::PACKETS_MALFORMED.one();
            for member in session.all() {
                member.judge(DisconnectReason::ParseError);
            }
            session.hang_up();
        }
    }

    fn act(self: &Arc<Self>, session: &Arc<Session>, incoming: Incoming) -> Result<(), Malformed> {
        let (namespace, query) = match session.revision {
            Revision::V5 => (&*incoming.namespace, None),
            // These give what they connect with as a query.
            Revision::V4 => match incoming.namespace.split_once('?') {
                Some((namespace, query)) => (namespace, Some(query)),
                None => (&*incoming.namespace, None),
            },
        };
        if let Content::Connect(auth) = incoming.content {
            let auth = match query {
                Some(query) => Some(from_query(query)),
                None => args::read_auth(auth.as_ref().map(|(text, _)| text.as_str()))?,
            };
            self.enter(session, namespace, auth);
            return Ok(());
        }
        let Some(member) = session.member(namespace) else {
            return match session.has_entered() {
                // It may have sent this before it heard that it is disconnected.
                true => Ok(()),
                false => Err(Malformed::Packet("it is in no namespace".into())),
            };
        };
        match incoming.content {
            Content::Connect(_) => {}
            Content::Disconnect => {
                session.leave(member.namespace());
                member.close(DisconnectReason::Client);
            }
            Content::Event((text, attachments), ack) => {
                let (event, args) = args::read_event(&text, attachments)?;
                member.take_in(event, args, ack);
            }
            Content::Ack((text, attachments), number) => {
                member.answered(number, args::read_answer(&text, attachments)?);
            }
        }
        Ok(())
    }

    /// A session enters a namespace, unless it is there already.
    fn enter(self: &Arc<Self>, session: &Arc<Session>, namespace: &str, auth: Option<Text>) {
        if session.member(namespace).is_some() {
            return;
        }
        if !self.directory.knows(namespace) {
            self.refuse_unknown(session, namespace);
            return;
        }
        let handshake = session.opening.handshake(auth);
        let attributes = Text::from_static("{}");
        let entered = self.directory.enter(namespace, |clients| {
            let member = Member::new(clients, &self.directory, session, attributes);
            session.enter(&member);
            member
        });
        if let Some(member) = entered {
            debug!(client = %member.id, session = %session.id, namespace, "connecting");
            member.enter(EventKind::Connection(Box::new(handshake)));
            if session.is_over() {
                member.close(DisconnectReason::TransportClose);
            }
        }
    }

    fn refuse_unknown(&self, session: &Session, namespace: &str) {
        let refusal = Refusal {
            message: Text::from_static(UNKNOWN_NAMESPACE),
            data: None,
        };
        let packet = match (session.revision, namespace) {
            // Without which these would go nowhere else.
            (Revision::V4, "/") => {
                let main = "/".into();
                self.common.codec.connected(&main, session.id, session.revision)
            }
            (revision, _) => self.common.codec.refused(namespace, &refusal, revision),
        };
        // Nothing was sent to it before that it could not read.
        let _ = session.send(packet);
    }

    /// Ends a session that enters no namespace in time.
    fn expect_entry(&self, session: &Arc<Session>) {
        let (timeout, late) = (self.connect_timeout, Arc::downgrade(session));
        let deadline = tokio::spawn(async move {
            sleep(timeout).await;
            if let Some(session) = late.upgrade() {
                debug!(session = %session.id, "closing the connection: it entered no namespace in time");
                session.hang_up();
            }
        });
        session.expect_entry(deadline.abort_handle());
    }
}

/// The fields of a query string, as the JSON object that newer clients would send.
fn from_query(query: &str) -> Text {
    let fields = form_urlencoded::parse(query.as_bytes());
    let fields: serde_json::Map<_, _> = fields
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    serde_json::Value::Object(fields).to_string().into()
}
