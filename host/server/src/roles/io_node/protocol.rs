//! Handles the packets of a connection: joins and leaves namespaces, and gives events and acknowledgements to the sockets.
//!
//! It runs in the task that reads the connection, so that a client's packets keep their order.
//! <https://socket.io/docs/v4/socket-io-protocol/>

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::time::sleep;
use tracing::{debug, info};

use super::attributes::{self, Fields};
use super::field::Field;
use super::hooks::Hooks;
use super::token::{Tokens, VerifiedToken};
use plugnode_message::{DisconnectReason, Handshake, MAX_NAME, Refusal, Text, now_ms};
use plugnode_process::metrics;
use plugnode_socket_io::{
    Connection, Connections, Flood, IncomingPacket, Malformed, NamespaceRegistry, PacketContent, Revision, Sid, Socket,
    SocketContext, Str,
};

/// The refusal of a connection that has joined as many namespaces as it may.
const TOO_MANY_NAMESPACES: &str = "too many namespaces";
/// The refusal of a connection that is joining too many namespaces at the same time.
const TOO_MANY_JOINING: &str = "too many namespaces at once";
/// The refusal of a namespace with a name of more than [`MAX_NAME`] bytes.
const LONG_NAMESPACE: &str = "the namespace's name is longer than 1024 bytes";
/// The reason of the disconnect of a client whose token expired.
const EXPIRED: &str = "token expired";
/// Tokens are taken to expire after at most ten years, which no connection lasts.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Handles the packets of all connections.
pub(super) struct Protocol {
    pub(super) context: Arc<SocketContext>,
    pub(super) connections: Arc<Connections<Socket>>,
    pub(super) namespaces: Arc<NamespaceRegistry<Socket>>,
    pub(super) hooks: Hooks,
    /// How long a connection may take to join a namespace.
    pub(super) connect_timeout: Duration,
    /// Namespaces that a connection may join.
    pub(super) namespaces_per_connection: AtomicUsize,
    /// Verifies the tokens of clients. None if they need no token.
    pub(super) tokens: Option<Arc<Tokens>>,
    /// Names of first attributes, and the field of the handshake that each is taken from.
    pub(super) attributes: Vec<(String, Field)>,
}

impl Protocol {
    /// A connection has opened.
    pub(super) fn opened(self: &Arc<Self>, connection: &Arc<Connection>) {
        self.limit_time_to_join(connection);
        if connection.revision == Revision::V4 {
            // Clients of revision 4 are in the main namespace from the beginning.
            self.join(connection, "/", None);
        }
    }

    /// A connection has ended. Sockets for which no other reason is set are closed for this one.
    pub(super) fn closed(&self, connection: &Connection, reason: &DisconnectReason) {
        for socket in connection.closed() {
            socket.close(reason.clone());
        }
    }

    /// Takes a text of a connection.
    pub(super) fn receive_text(self: &Arc<Self>, connection: &Arc<Connection>, text: Str) {
        if let Err(flood) = connection.count_packet() {
            return self.close_flooding(connection, flood);
        }
        let packet = self.context.codec.read_text(&connection.partial, text);
        self.receive(connection, packet);
    }

    /// Takes a binary message of a connection.
    pub(super) fn receive_binary(self: &Arc<Self>, connection: &Arc<Connection>, data: Bytes) {
        if let Err(flood) = connection.count_packet() {
            return self.close_flooding(connection, flood);
        }
        let packet = self.context.codec.read_binary(&connection.partial, data);
        self.receive(connection, packet);
    }

    /// Called before the messages of a burst: the connection sent `messages` at once.
    pub(super) fn burst(&self, connection: &Connection, messages: usize) {
        if let Err(flood) = connection.check_burst(messages) {
            self.close_flooding(connection, flood);
        }
    }

    fn close_flooding(&self, connection: &Connection, flood: Flood) {
        debug!(session = connection.id(), reason = %flood, "closing the connection");
        metrics::SESSIONS_FLOODING.increment();
        connection.close_with(&DisconnectReason::Other(flood.to_string()));
    }

    fn receive(self: &Arc<Self>, connection: &Arc<Connection>, packet: Result<Option<IncomingPacket>, Malformed>) {
        let handled = match packet {
            Ok(None) => Ok(()),
            Ok(Some(packet)) => self.handle(connection, packet),
            Err(malformed) => Err(malformed),
        };
        if let Err(malformed) = handled {
            debug!(session = connection.id(), reason = %malformed, "closing the connection");
            metrics::PACKETS_MALFORMED.increment();
            connection.close_with(&DisconnectReason::ParseError);
        }
    }

    fn handle(self: &Arc<Self>, connection: &Arc<Connection>, packet: IncomingPacket) -> Result<(), Malformed> {
        let (namespace, query) = match connection.revision {
            Revision::V5 => (&*packet.namespace, None),
            // Clients of revision 4 send `auth` as a query string.
            Revision::V4 => match packet.namespace.split_once('?') {
                Some((namespace, query)) => (namespace, Some(query)),
                None => (&*packet.namespace, None),
            },
        };
        if matches!(packet.content, PacketContent::Connect(_) | PacketContent::Event(..))
            && let Err(flood) = connection.count_event()
        {
            self.close_flooding(connection, flood);
            return Ok(());
        }
        if let PacketContent::Connect(auth) = packet.content {
            let auth = match (query, auth) {
                (Some(query), _) => Some(auth_of_query(query)),
                (None, Some(auth)) => auth.into_auth()?,
                (None, None) => None,
            };
            self.join(connection, namespace, auth);
            return Ok(());
        }
        let Some(socket) = connection.socket(namespace) else {
            return match connection.is_joining_or_left(namespace) {
                // The client may have sent this before it heard that it is disconnected.
                true => Ok(()),
                false => Err(Malformed::Packet("the connection has not joined its namespace".into())),
            };
        };
        match packet.content {
            PacketContent::Connect(_) | PacketContent::Nothing => {}
            PacketContent::Disconnect => socket.close(DisconnectReason::Client),
            PacketContent::Event(payload, ack) => {
                let (event, args) = payload.into_event()?;
                socket.receive_event(event, args, ack);
            }
            PacketContent::Ack(payload, id) => socket.receive_ack(id, payload.into_answer()?),
        }
        Ok(())
    }

    /// Lets a connection join a namespace. A connection that has joined it or is joining it is closed, as by Node's server.
    fn join(self: &Arc<Self>, connection: &Arc<Connection>, namespace: &str, auth: Option<Text>) {
        if connection.socket(namespace).is_some() || connection.is_joining(namespace) {
            debug!(
                session = connection.id(),
                namespace, "closing the connection: it joins the same namespace again"
            );
            connection.close_with(&DisconnectReason::Server);
            return;
        }
        if namespace.len() > MAX_NAME {
            metrics::NAMESPACES_REFUSED.increment();
            return self.refuse(connection, namespace, &refusal(LONG_NAMESPACE));
        }
        if !self.namespaces.is_bound(namespace) {
            self.refuse_unknown(connection, namespace);
            return;
        }
        if connection.namespace_count() >= self.namespaces_per_connection.load(Ordering::Relaxed) {
            metrics::NAMESPACES_REFUSED.increment();
            return self.refuse(connection, namespace, &refusal(TOO_MANY_NAMESPACES));
        }
        let handshake = connection.handshake(auth);
        let Some(tokens) = self.tokens.clone() else {
            self.connect(connection, namespace, handshake, Map::new());
            return;
        };
        let token = tokens.of(&Fields::of(&handshake));
        let mut verifying = Box::pin(async move { tokens.check(token.as_deref()).await });
        if let Some(verified) = (&mut verifying).now_or_never() {
            self.verified(connection, namespace, handshake, verified);
            return;
        }
        // It waits for a key. Meanwhile the connection is read.
        if !connection.begin_join(namespace) {
            metrics::NAMESPACES_REFUSED.increment();
            return self.refuse(connection, namespace, &refusal(TOO_MANY_JOINING));
        }
        let (protocol, connection, namespace) = (self.clone(), connection.clone(), namespace.to_owned());
        tokio::spawn(async move {
            let verified = verifying.await;
            if !connection.is_closed() {
                protocol.verified(&connection, &namespace, handshake, verified);
            }
            connection.end_join(&namespace);
        });
    }

    /// The client's token was verified, or refused.
    fn verified(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        namespace: &str,
        handshake: Handshake,
        verified: Result<VerifiedToken, Refusal>,
    ) {
        match verified {
            Ok(VerifiedToken { claims, expires_at }) => {
                self.connect(connection, namespace, handshake, claims);
                if let Some(expires_at) = expires_at {
                    close_at_expiry(connection, expires_at);
                }
            }
            Err(refusal) => {
                metrics::TOKENS_REFUSED.increment();
                self.refuse(connection, namespace, &refusal);
            }
        }
    }

    /// Connects a client, with these claims of its token, to a namespace.
    fn connect(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        namespace: &str,
        handshake: Handshake,
        claims: Map<String, Value>,
    ) {
        let attributes = attributes::first(&self.attributes, &Fields::of(&handshake), claims)
            .and_then(|attributes| self.hooks.first_attributes(namespace, &handshake, attributes));
        match attributes {
            Ok(attributes) => {
                Socket::connect(&self.namespaces, namespace, connection, handshake, attributes);
            }
            Err(refusal) => self.refuse(connection, namespace, &refusal),
        }
    }

    fn refuse_unknown(&self, connection: &Connection, namespace: &str) {
        let codec = &self.context.codec;
        let packet = match (connection.revision, namespace) {
            // Clients of revision 4 have to be in the main namespace before they can join another.
            (Revision::V4, "/") => codec.connected(&"/".into(), Sid::ZERO, connection.revision),
            _ => {
                metrics::NAMESPACES_REFUSED.increment();
                codec.unknown_namespace(namespace)
            }
        };
        connection.send(packet);
    }

    fn refuse(&self, connection: &Connection, namespace: &str, refusal: &Refusal) {
        let packet = self.context.codec.refused(namespace, refusal, connection.revision);
        connection.send(packet);
    }

    /// Closes a connection that joins no namespace in time.
    fn limit_time_to_join(&self, connection: &Arc<Connection>) {
        let (timeout, idle) = (self.connect_timeout, Arc::downgrade(connection));
        let deadline = tokio::spawn(async move {
            sleep(timeout).await;
            if let Some(connection) = idle.upgrade() {
                debug!(
                    session = connection.id(),
                    "closing the connection: it joined no namespace in time"
                );
                connection.close();
            }
        });
        connection.set_join_deadline(deadline.abort_handle());
    }
}

/// Closes a connection at `expires_at`, in seconds since 1970, when the token of one of its sockets expires.
fn close_at_expiry(connection: &Arc<Connection>, expires_at: u64) {
    let (expiring, now) = (Arc::downgrade(connection), now_ms());
    let left = Duration::from_millis(expires_at.saturating_mul(1_000).saturating_sub(now)).min(MAX_TOKEN_LIFETIME);
    let expiry = tokio::spawn(async move {
        sleep(left).await;
        if let Some(connection) = expiring.upgrade().filter(|connection| !connection.is_closed()) {
            info!(session = connection.id(), "closing the connection: {EXPIRED}");
            metrics::TOKENS_EXPIRED.increment();
            connection.close_with(&DisconnectReason::Other(EXPIRED.into()));
        }
    });
    connection.set_expiry(expiry.abort_handle());
}

/// The fields of a query string, as the JSON object that clients of revision 5 would send as `auth`.
fn auth_of_query(query: &str) -> Text {
    let fields = form_urlencoded::parse(query.as_bytes());
    let fields: Map<_, _> = fields
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    Value::Object(fields).to_string().into()
}

fn refusal(message: &'static str) -> Refusal {
    Refusal {
        message: Text::from_static(message),
        data: None,
    }
}
