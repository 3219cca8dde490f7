//! The protocol of Socket.IO over the sessions of Engine.IO: who connects to which namespace, and what comes from whom.
//!
//! Everything happens in the task that reads the connection, so that what a client sends keeps its order. The protocol:
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::time::sleep;
use tracing::{debug, info};

use super::attributes::{self, Field, Fields};
use super::clients::Common;
use super::directory::Directory;
use super::limits::Flood;
use super::member::Member;
use super::session::{Session, Sessions};
use super::token::{Taken, Tokens};
use plugnode_message::{DisconnectReason, EventKind, Handshake, MOST_NAME, Refusal, Text, now_ms};
use plugnode_process::counts;
use plugnode_socket_io::{IncomingPacket, Malformed, PacketContent, Revision, Sid, Str};

/// What a client is told whose connection is in as many namespaces as it may be.
const TOO_MANY_NAMESPACES: &str = "too many namespaces";
/// What a client is told whose namespace has a name of more than [`MOST_NAME`] bytes.
const LONG_NAMESPACE: &str = "the namespace's name is longer than 1024 bytes";
/// Why a client is disconnected whose token has run out.
const EXPIRED: &str = "token expired";
/// A token that runs out later than this, ten years from now, outlives every connection.
const LONGEST_TOKEN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Answers what clients send.
pub(super) struct Protocol {
    pub(super) common: Arc<Common>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) directory: Arc<Directory>,
    /// How long a session has to enter a namespace.
    pub(super) connect_timeout: Duration,
    /// How many namespaces a session may be in.
    pub(super) namespaces_per_connection: AtomicUsize,
    /// Looks at the tokens of clients, if they have to have any.
    pub(super) tokens: Option<Arc<Tokens>>,
    /// What clients have as attributes from the beginning, and where in the handshake it is found.
    pub(super) attributes: Vec<(String, Field)>,
}

impl Protocol {
    /// A session begins.
    pub(super) fn begin(self: &Arc<Self>, session: &Arc<Session>) {
        self.expect_entry(session);
        if session.revision == Revision::V4 {
            // Of these every client is in the main namespace.
            self.enter(session, "/", None);
        }
    }

    /// A session is over, for this reason if nobody knows better.
    pub(super) fn end(&self, session: &Session, reason: &DisconnectReason) {
        for member in session.end() {
            member.close(reason.clone());
        }
    }

    /// Takes in a text of a session.
    pub(super) fn hear_text(self: &Arc<Self>, session: &Arc<Session>, text: Str) {
        if let Err(flood) = session.packet() {
            return self.end_flood(session, flood);
        }
        let read = self.common.codec.read_text(&session.partial, text);
        self.take_in(session, read);
    }

    /// Takes in binary data of a session.
    pub(super) fn hear_binary(self: &Arc<Self>, session: &Arc<Session>, data: Bytes) {
        if let Err(flood) = session.packet() {
            return self.end_flood(session, flood);
        }
        let read = self.common.codec.read_binary(&session.partial, data);
        self.take_in(session, read);
    }

    /// Notes that a session has sent so many messages at once.
    pub(super) fn expect(&self, session: &Session, messages: usize) {
        if let Err(flood) = session.expect(messages) {
            self.end_flood(session, flood);
        }
    }

    fn end_flood(&self, session: &Session, flood: Flood) {
        debug!(session = session.id(), "closing the connection: {flood}");
        counts::SESSIONS_FLOODING.one();
        session.expel(&DisconnectReason::Other(flood.to_string()));
    }

    fn take_in(self: &Arc<Self>, session: &Arc<Session>, read: Result<Option<IncomingPacket>, Malformed>) {
        let done = match read {
            Ok(None) => Ok(()),
            Ok(Some(incoming)) => self.act(session, incoming),
            Err(malformed) => Err(malformed),
        };
        if let Err(malformed) = done {
            debug!(session = session.id(), "closing the connection: {malformed}");
            counts::PACKETS_MALFORMED.one();
            session.expel(&DisconnectReason::ParseError);
        }
    }

    fn act(self: &Arc<Self>, session: &Arc<Session>, incoming: IncomingPacket) -> Result<(), Malformed> {
        let (namespace, query) = match session.revision {
            Revision::V5 => (&*incoming.namespace, None),
            // These give what they connect with as a query.
            Revision::V4 => match incoming.namespace.split_once('?') {
                Some((namespace, query)) => (namespace, Some(query)),
                None => (&*incoming.namespace, None),
            },
        };
        if matches!(incoming.content, PacketContent::Connect(_) | PacketContent::Event(..))
            && let Err(flood) = session.event()
        {
            self.end_flood(session, flood);
            return Ok(());
        }
        if let PacketContent::Connect(auth) = incoming.content {
            let auth = match query {
                Some(query) => Some(from_query(query)),
                None => match auth {
                    Some(auth) => auth.into_auth()?,
                    None => None,
                },
            };
            self.enter(session, namespace, auth);
            return Ok(());
        }
        let Some(member) = session.member(namespace) else {
            return match session.is_near(namespace) {
                // It may have sent this before it heard that it is disconnected.
                true => Ok(()),
                false => Err(Malformed::Packet("it is for a namespace that was not entered".into())),
            };
        };
        match incoming.content {
            PacketContent::Connect(_) => {}
            PacketContent::Disconnect => member.close(DisconnectReason::Client),
            PacketContent::Event(payload, ack) => {
                let (event, args) = payload.into_event()?;
                member.take_in(event, args, ack);
            }
            PacketContent::Ack(payload, number) => member.answered(number, payload.into_answer()?),
        }
        Ok(())
    }

    /// A session enters a namespace. One that is there already, or about to be, is closed, as Node's server does.
    fn enter(self: &Arc<Self>, session: &Arc<Session>, namespace: &str, auth: Option<Text>) {
        if session.member(namespace).is_some() || session.is_checked_for(namespace) {
            debug!(
                session = session.id(),
                namespace, "closing the connection: it is in this namespace already"
            );
            session.expel(&DisconnectReason::Server);
            return;
        }
        if namespace.len() > MOST_NAME {
            counts::NAMESPACES_REFUSED.one();
            return self.refuse(session, namespace, &words(LONG_NAMESPACE));
        }
        if !self.directory.knows(namespace) {
            self.refuse_unknown(session, namespace);
            return;
        }
        if session.namespaces() >= self.namespaces_per_connection.load(Ordering::Relaxed) {
            counts::NAMESPACES_REFUSED.one();
            return self.refuse(session, namespace, &words(TOO_MANY_NAMESPACES));
        }
        let handshake = session.handshake(auth);
        let Some(tokens) = self.tokens.clone() else {
            self.let_in(session, namespace, handshake, Map::new());
            return;
        };
        let token = tokens.of(&Fields::of(&handshake));
        let mut checking = Box::pin(async move { tokens.check(token.as_deref()).await });
        if let Some(checked) = (&mut checking).now_or_never() {
            self.checked(session, namespace, handshake, checked);
            return;
        }
        // It waits for a key. What else the client sends is not held up by that.
        if !session.begin_check(namespace) {
            counts::NAMESPACES_REFUSED.one();
            return self.refuse(session, namespace, &words("too many namespaces at once"));
        }
        let (protocol, session, namespace) = (self.clone(), session.clone(), namespace.to_owned());
        tokio::spawn(async move {
            let checked = checking.await;
            if !session.is_over() {
                protocol.checked(&session, &namespace, handshake, checked);
            }
            session.end_check(&namespace);
        });
    }

    /// A client's token was looked at.
    fn checked(
        self: &Arc<Self>,
        session: &Arc<Session>,
        namespace: &str,
        handshake: Handshake,
        checked: Result<Taken, Refusal>,
    ) {
        match checked {
            Ok(Taken { claims, expires_at }) => {
                self.let_in(session, namespace, handshake, claims);
                if let Some(expires_at) = expires_at {
                    end_at_expiry(session, expires_at);
                }
            }
            Err(refusal) => {
                counts::TOKENS_REFUSED.one();
                self.refuse(session, namespace, &refusal);
            }
        }
    }

    /// A client comes as far as to the door of a namespace, with these claims.
    fn let_in(
        self: &Arc<Self>,
        session: &Arc<Session>,
        namespace: &str,
        handshake: Handshake,
        claims: Map<String, Value>,
    ) {
        let attributes = match attributes::first(&self.attributes, &Fields::of(&handshake), claims) {
            Ok(attributes) => attributes,
            Err(refusal) => return self.refuse(session, namespace, &refusal),
        };
        let hooks = &self.common.hooks;
        let attributes = match hooks.first_attributes(namespace, &handshake, attributes) {
            Ok(attributes) => attributes,
            Err(refusal) => return self.refuse(session, namespace, &refusal),
        };
        let entered = self.directory.enter(namespace, |clients| {
            let member = Member::new(clients, &self.directory, session, attributes);
            session.enter(&member);
            member
        });
        if let Some(member) = entered {
            debug!(client = %member.id, session = session.id(), address = session.address(), namespace, "connecting");
            member.enter(EventKind::Connection(Box::new(handshake)));
            if session.is_over() {
                member.close(DisconnectReason::TransportClose);
            }
        }
    }

    fn refuse_unknown(&self, session: &Session, namespace: &str) {
        let codec = &self.common.codec;
        let packet = match (session.revision, namespace) {
            // Without which these would go nowhere else.
            (Revision::V4, "/") => codec.connected(&"/".into(), Sid::ZERO, session.revision),
            _ => {
                counts::NAMESPACES_REFUSED.one();
                codec.unknown_namespace(namespace)
            }
        };
        session.send(packet);
    }

    fn refuse(&self, session: &Session, namespace: &str, refusal: &Refusal) {
        let packet = self.common.codec.refused(namespace, refusal, session.revision);
        session.send(packet);
    }

    /// Ends a session that enters no namespace in time.
    fn expect_entry(&self, session: &Arc<Session>) {
        let (timeout, late) = (self.connect_timeout, Arc::downgrade(session));
        let deadline = tokio::spawn(async move {
            sleep(timeout).await;
            if let Some(session) = late.upgrade() {
                debug!(
                    session = session.id(),
                    "closing the connection: it entered no namespace in time"
                );
                session.hang_up();
            }
        });
        session.expect_entry(deadline.abort_handle());
    }
}

/// Ends a session when a token runs out by which one of its clients came in.
fn end_at_expiry(session: &Arc<Session>, expires_at: u64) {
    let (expiring, opened) = (Arc::downgrade(session), now_ms());
    let left = Duration::from_millis(expires_at.saturating_mul(1_000).saturating_sub(opened)).min(LONGEST_TOKEN);
    let deadline = tokio::spawn(async move {
        sleep(left).await;
        if let Some(session) = expiring.upgrade().filter(|session| !session.is_over()) {
            info!(session = session.id(), "closing the connection: {EXPIRED}");
            counts::TOKENS_EXPIRED.one();
            session.expel(&DisconnectReason::Other(EXPIRED.into()));
        }
    });
    session.expire_by(deadline.abort_handle());
}

/// The fields of a query string, as the JSON object that newer clients would send.
fn from_query(query: &str) -> Text {
    let fields = form_urlencoded::parse(query.as_bytes());
    let fields: Map<_, _> = fields
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    Value::Object(fields).to_string().into()
}

/// A refusal in these words.
fn words(message: &'static str) -> Refusal {
    Refusal {
        message: Text::from_static(message),
        data: None,
    }
}
