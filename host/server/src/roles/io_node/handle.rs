//! An io-node as the program sees it that embeds it: its clients, and events of the program's own for the apps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::directory::Directory;
use super::incarnation::Gate;
use super::member::Member;
use super::waiting::{Arrival, Source};
use plugnode_message::{Channel, Event, EventKind, Namespace, NodeId, RESERVED_KINDS, SessionId, Text, now_ms};

/// Bytes of events from nobody that may wait to be accepted.
const WAITING: usize = 4 << 20;

/// The io-node. Clones are the same one.
#[derive(Clone)]
pub struct IoHandle {
    pub(super) parts: Arc<Parts>,
}

pub(super) struct Parts {
    pub(super) io_node: NodeId,
    pub(super) directory: Arc<Directory>,
    pub(super) gate: Arc<Gate>,
    pub(super) max_payload: usize,
    pub(super) waiting: Arc<AtomicUsize>,
}

/// A client that was connected when it was looked up.
#[derive(Clone)]
pub struct ConnectedClient {
    handle: IoHandle,
    member: Arc<Member>,
}

/// An event of the program's own, on its way to an app: what socket.io-cluster called a message.
#[must_use = "it goes nowhere until it is sent"]
pub struct OwnEvent {
    handle: IoHandle,
    namespace: Namespace,
    member: Option<Arc<Member>>,
    kind: Text,
    data: Bytes,
    content_type: Option<Text>,
}

/// Why an event of the program's own was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Its client is not connected any more.
    #[error("client {0} is gone, and after a client's disconnect no event of it may come")]
    Gone(SessionId),
    /// Nobody would handle it.
    #[error("no app is bound to the namespace {0}: name the io-node's namespace when it is built")]
    NoApp(Namespace),
    /// The host keeps this kind for itself.
    #[error("the kind {0:?} begins with `plugnode.`, which is the host's own")]
    Reserved(Text),
    /// It is larger than any client's message may be.
    #[error("data of {size} bytes is over the limit of {most}: send less, or raise max-payload")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// How many there may be.
        most: usize,
    },
    /// Events come faster than they are accepted.
    #[error("too many events wait to be accepted: send again when the transport keeps up")]
    Backlog,
    /// The io-node has lost its place in the cluster for the moment.
    #[error("the io-node has not joined the cluster: send again when it has")]
    NotJoined,
}

/// Attributes that cannot be a client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attributes stay as they were: {0}")]
pub struct AttributesError(String);

impl IoHandle {
    /// The io-node's name in the cluster.
    pub fn id(&self) -> &NodeId {
        &self.parts.io_node
    }

    /// Whether it has its place in the cluster, and so takes clients.
    pub fn has_joined(&self) -> bool {
        self.parts.gate.is_open()
    }

    /// A client that is connected here. Clients of other io-nodes are theirs.
    pub fn client(&self, namespace: &str, id: &str) -> Option<ConnectedClient> {
        let member = self.parts.directory.find(&namespace.into(), &id.into())?;
        Some(self.connected(member))
    }

    /// All clients of a namespace that are connected here.
    pub fn clients(&self, namespace: &str) -> Vec<ConnectedClient> {
        let clients = self.parts.directory.clients(&namespace.into());
        let members = clients.map(|clients| clients.connected()).unwrap_or_default();
        members.into_iter().map(|member| self.connected(member)).collect()
    }

    /// Begins an event of this kind, which says what it is, with a version at the end, such as `acme.price-change/1`. It
    /// goes to the app of namespace `/` and comes from nobody, unless it is told otherwise.
    pub fn event(&self, kind: impl Into<Text>) -> OwnEvent {
        OwnEvent {
            handle: self.clone(),
            namespace: "/".into(),
            member: None,
            kind: kind.into(),
            data: Bytes::new(),
            content_type: None,
        }
    }

    fn connected(&self, member: Arc<Member>) -> ConnectedClient {
        ConnectedClient {
            handle: self.clone(),
            member,
        }
    }
}

impl ConnectedClient {
    /// Its session id.
    pub fn id(&self) -> &SessionId {
        &self.member.id
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        self.member.namespace()
    }

    /// Its attributes.
    pub fn attributes(&self) -> Map<String, Value> {
        serde_json::from_str(&self.member.attributes()).unwrap_or_default()
    }

    /// Changes its attributes by a JSON merge patch: fields that are `null` are removed, others set, the rest stays. They go
    /// with all events that the io-node takes in from now on.
    ///
    /// # Errors
    /// When the patch is no object, or the attributes would be more than 16 KB.
    pub fn patch_attributes(&self, patch: &impl Serialize) -> Result<(), AttributesError> {
        let patch = match serde_json::to_value(patch) {
            Ok(Value::Object(patch)) => Value::Object(patch).to_string(),
            Ok(_) => return Err(AttributesError("the patch is not an object".into())),
            Err(error) => return Err(AttributesError(format!("the patch cannot be written as JSON: {error}"))),
        };
        self.member.patch(&patch, 0).map_err(AttributesError)
    }

    /// Sets the attribute `userId`: for its own events from now on, as `setUserId` of socket.io-cluster did.
    ///
    /// # Errors
    /// As with [`patch_attributes`](Self::patch_attributes).
    pub fn set_user_id(&self, id: impl Serialize) -> Result<(), AttributesError> {
        self.patch_attributes(&Map::from_iter([(
            "userId".to_owned(),
            serde_json::to_value(id).map_err(|error| AttributesError(error.to_string()))?,
        )]))
    }

    /// The channels that it is subscribed to.
    pub fn channels(&self) -> Vec<Channel> {
        self.member.clients.subscriptions(&self.member.id)
    }

    /// Begins an event of this client.
    pub fn event(&self, kind: impl Into<Text>) -> OwnEvent {
        self.handle.event(kind).client(self)
    }
}

impl OwnEvent {
    /// It comes from this client: with its id and attributes, to its app, and behind its earlier events.
    pub fn client(self, client: &ConnectedClient) -> Self {
        Self {
            namespace: client.namespace().clone(),
            member: Some(client.member.clone()),
            ..self
        }
    }

    /// It is for the app of this namespace, and comes from nobody. Events from nobody keep their order.
    pub fn namespace(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            member: None,
            ..self
        }
    }

    /// It has this content, which is what the media type says.
    pub fn data(self, data: impl Into<Bytes>, content_type: Option<&str>) -> Self {
        Self {
            data: data.into(),
            content_type: content_type.map(Text::from),
            ..self
        }
    }

    /// It has this content, as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(self, content: &impl Serialize) -> serde_json::Result<Self> {
        let data = serde_json::to_vec(content)?;
        Ok(self.data(data, Some("application/json")))
    }

    /// Sends it on its way. It is handled once, as any other event, when the transport has accepted it: until then it is
    /// lost if the process dies.
    ///
    /// # Errors
    /// When it cannot go; then nothing has been sent.
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
        if let Some(member) = self.member {
            return match member.enqueue(kind) {
                true => Ok(()),
                false => Err(SendError::Gone(member.id.clone())),
            };
        }
        if !parts.directory.knows(self.namespace.as_str()) {
            return Err(SendError::NoApp(self.namespace));
        }
        let event = Event {
            namespace: self.namespace,
            client: None,
            received_at_ms: now_ms(),
            kind,
        };
        let incarnation = parts.gate.present();
        if incarnation.is_over() {
            return Err(SendError::NotJoined);
        }
        let share = Share::take(&parts.waiting, event.size()).ok_or(SendError::Backlog)?;
        incarnation.take_in(Arrival {
            event,
            source: Source::Program(share),
        });
        Ok(())
    }
}

/// Room for an event from nobody, free again when this is dropped.
pub(super) struct Share {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    pub(super) fn take(waiting: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let more = |waiting| (waiting < WAITING).then_some(waiting + bytes);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self {
            waiting: waiting.clone(),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
