//! The transport as an io-node uses it: an inbox for its clients' events, and an outbox of commands for them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;
use plugnode_message::{Command, Event, Namespace, NodeId, SessionId};

/// An io-node, as it is listed for other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoNode {
    /// Its name, unique in the cluster.
    pub id: NodeId,
    /// The host at which clients reach it. Empty: the host at which they reached the frontend.
    pub host: String,
    /// The port at which clients reach it.
    pub port: u16,
    /// URLs of its `/readyz`, for other nodes. The hosts 0.0.0.0 and [::] stand for the address from which its machine reaches the
    /// transport.
    pub probes: Vec<String>,
    /// `http` or `https`, as clients reach it. Empty: unknown.
    pub scheme: String,
    /// The path of Socket.IO, as clients reach it. Empty: unknown.
    pub path: String,
}

impl IoNode {
    /// An io-node that no client finds by a list: it gets the commands for its own clients.
    pub fn without_address(id: impl Into<NodeId>) -> Self {
        Self {
            id: id.into(),
            host: String::new(),
            port: 0,
            probes: Vec::new(),
            scheme: String::new(),
            path: String::new(),
        }
    }
}

/// The membership of an io-node. It ends when both halves are dropped.
pub struct IoSession {
    /// Takes the events of its clients.
    pub inbox: Arc<dyn Inbox>,
    /// Yields the commands for its clients.
    pub outbox: Box<dyn Outbox>,
}

/// The inbox of an io-node: offers events to the transport.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Offers events, each client's in the order given. Returns those that were refused because a backlog is full; if an event of a
    /// client is refused, so are all of its later ones in this call. An event that is not returned is accepted: it will be handled.
    /// Exception: the disconnect of a client that a handler refused meanwhile.
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>>;

    /// Sends a command to an io-node, which may be this one: at most in order with itself, not with commits. It may arrive twice, and
    /// is lost if that io-node is gone or its outbox is full.
    async fn tell(&self, node: &NodeId, command: Command) -> Result<()>;

    /// Whether the events of a new client cost less with this id than with others. An io-node may draw ids until it is so.
    fn prefers(&self, _client: &SessionId) -> bool {
        true
    }

    /// Number of open events of a client of this io-node, as far as this process knows.
    fn open_events(&self, _namespace: &Namespace, _client: &SessionId) -> usize {
        0
    }
}

/// The outbox of an io-node.
#[async_trait]
pub trait Outbox: Send {
    /// The next commands, at least one, in order. Cancel safe. A command may name clients of other io-nodes.
    async fn next(&mut self) -> Result<Vec<Command>>;
}
