//! The interface of an io-node for the program that embeds it: its clients, and custom events from the program to apps.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::program_backlog::ProgramBacklog;
use plugnode_message::{Channel, Event, EventKind, Namespace, NodeId, RESERVED_KINDS, SessionId, Text, now_ms};
use plugnode_socket_io::{CurrentIncarnation, NamespaceRegistry, PendingEvent, Socket};

/// An io-node. Clones are handles of the same one.
#[derive(Clone)]
pub struct IoHandle {
    pub(super) parts: Arc<Parts>,
}

pub(super) struct Parts {
    pub(super) io_node: NodeId,
    pub(super) namespaces: Arc<NamespaceRegistry<Socket>>,
    pub(super) incarnation: Arc<CurrentIncarnation>,
    pub(super) max_payload: usize,
    pub(super) backlog: ProgramBacklog,
}

/// A client that was connected when it was looked up, and may have left since.
#[derive(Clone)]
pub struct ConnectedClient {
    handle: IoHandle,
    socket: Arc<Socket>,
}

/// A custom event from the program to an app; socket.io-cluster calls it a message.
#[must_use = "an event has to be sent"]
pub struct OwnEvent {
    handle: IoHandle,
    namespace: Namespace,
    socket: Option<Arc<Socket>>,
    kind: Text,
    data: Bytes,
    content_type: Option<Text>,
}

/// Why an event was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Its client has disconnected.
    #[error("client {0} has disconnected, and no event may follow a client's disconnect")]
    Gone(SessionId),
    /// No app is bound to its namespace.
    #[error("no app is bound to the namespace {0}: name the io-node's namespace when it is built")]
    NoApp(Namespace),
    /// The kind is reserved.
    #[error("the kind {0:?} begins with `plugnode.`, which is reserved: choose another")]
    Reserved(Text),
    /// It is larger than a client's message may be.
    #[error("data of {size} bytes is over the limit of {most}: send less, or raise max-payload")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// The transport does not accept events as fast as they come.
    #[error("too many events wait to be accepted: send again when the transport keeps up")]
    Backlog,
    /// The io-node is no member of the cluster at the moment.
    #[error("the io-node has not joined the cluster: send again when it has")]
    NotJoined,
}

/// Why attributes were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attributes not changed: {0}")]
pub struct AttributesError(String);

impl IoHandle {
    /// The io-node's name in the cluster.
    pub fn id(&self) -> &NodeId {
        &self.parts.io_node
    }

    /// Whether it is a member of the cluster, and so accepts clients.
    pub fn has_joined(&self) -> bool {
        self.parts.incarnation.is_member()
    }

    /// A client that is connected to this io-node.
    pub fn client(&self, namespace: &str, id: &str) -> Option<ConnectedClient> {
        let socket = self.parts.namespaces.find(&namespace.into(), &id.into())?;
        Some(self.connected(socket))
    }

    /// All clients of a namespace that are connected to this io-node.
    pub fn clients(&self, namespace: &str) -> Vec<ConnectedClient> {
        let sockets = self.parts.namespaces.sockets(&namespace.into());
        let sockets = sockets.map(|sockets| sockets.connected()).unwrap_or_default();
        sockets.into_iter().map(|socket| self.connected(socket)).collect()
    }

    /// Begins an event of this kind: a name with a version at the end, such as `acme.price-change/1`. By default it goes to the app of
    /// namespace `/` and comes from no client.
    pub fn event(&self, kind: impl Into<Text>) -> OwnEvent {
        OwnEvent {
            handle: self.clone(),
            namespace: "/".into(),
            socket: None,
            kind: kind.into(),
            data: Bytes::new(),
            content_type: None,
        }
    }

    fn connected(&self, socket: Arc<Socket>) -> ConnectedClient {
        ConnectedClient {
            handle: self.clone(),
            socket,
        }
    }
}

impl ConnectedClient {
    /// Its session id.
    pub fn id(&self) -> &SessionId {
        &self.socket.id
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        self.socket.namespace()
    }

    /// Its attributes.
    pub fn attributes(&self) -> Map<String, Value> {
        serde_json::from_str(&self.socket.attributes()).unwrap_or_default()
    }

    /// Applies a JSON merge patch to its attributes: fields that are `null` are removed, other fields are set. All events that the io-node
    /// takes from now on have the new attributes.
    ///
    /// # Errors
    /// If the patch is not an object, or the attributes would be larger than 16 KB.
    pub fn patch_attributes(&self, patch: &impl Serialize) -> Result<(), AttributesError> {
        let patch = match serde_json::to_value(patch) {
            Ok(Value::Object(patch)) => Value::Object(patch).to_string(),
            Ok(_) => return Err(AttributesError("the patch is not an object".into())),
            Err(error) => return Err(AttributesError(format!("the patch cannot be written as JSON: {error}"))),
        };
        self.socket.patch_attributes(&patch, 0).map_err(AttributesError)
    }

    /// Sets the attribute `userId`, as `setUserId` of socket.io-cluster does.
    ///
    /// # Errors
    /// The same as for [`patch_attributes`](Self::patch_attributes).
    pub fn set_user_id(&self, id: impl Serialize) -> Result<(), AttributesError> {
        self.patch_attributes(&Map::from_iter([(
            "userId".to_owned(),
            serde_json::to_value(id).map_err(|error| AttributesError(error.to_string()))?,
        )]))
    }

    /// The channels that it is subscribed to.
    pub fn channels(&self) -> Vec<Channel> {
        self.socket.namespace.rooms_of(&self.socket.id)
    }

    /// Begins an event of this client.
    pub fn event(&self, kind: impl Into<Text>) -> OwnEvent {
        self.handle.event(kind).client(self)
    }
}

impl OwnEvent {
    /// Sends the event as one of this client: with its id and attributes, to its app, behind its earlier events.
    pub fn client(self, client: &ConnectedClient) -> Self {
        Self {
            namespace: client.namespace().clone(),
            socket: Some(client.socket.clone()),
            ..self
        }
    }

    /// Sends the event to the app of this namespace, from no client. Such events keep their order.
    pub fn namespace(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            socket: None,
            ..self
        }
    }

    /// Sets its content and media type.
    pub fn data(self, data: impl Into<Bytes>, content_type: Option<&str>) -> Self {
        Self {
            data: data.into(),
            content_type: content_type.map(Text::from),
            ..self
        }
    }

    /// Sets its content, as JSON.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn json(self, content: &impl Serialize) -> serde_json::Result<Self> {
        let data = serde_json::to_vec(content)?;
        Ok(self.data(data, Some("application/json")))
    }

    /// Sends the event. Once the transport has accepted it, it is handled exactly once; until then it is lost if the process dies.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn send(self) -> Result<(), SendError> {
        let parts = &self.handle.parts;
        if self.kind.starts_with(RESERVED_KINDS) {
            return Err(SendError::Reserved(self.kind));
        }
        let (size, most) = (self.data.len(), parts.max_payload);
        if size > most {
            return Err(SendError::TooLarge { size, most });
        }
        let kind = EventKind::Custom {
            kind: self.kind,
            data: self.data,
            content_type: self.content_type,
        };
        if let Some(socket) = self.socket {
            return match socket.enqueue(kind) {
                true => Ok(()),
                false => Err(SendError::Gone(socket.id.clone())),
            };
        }
        if !parts.namespaces.is_bound(self.namespace.as_str()) {
            return Err(SendError::NoApp(self.namespace));
        }
        let event = Event {
            namespace: self.namespace,
            client: None,
            received_at_ms: now_ms(),
            kind,
        };
        let incarnation = parts.incarnation.get();
        if incarnation.is_over() {
            return Err(SendError::NotJoined);
        }
        let source = parts.backlog.reserve(event.size()).ok_or(SendError::Backlog)?;
        incarnation.queue(PendingEvent::new(event, source));
        Ok(())
    }
}
