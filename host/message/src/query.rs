//! Cluster queries: a question to all io-nodes, and the part of each in the answer.

use serde::{Deserialize, Serialize};

use crate::{Audience, Channel, Namespace, NodeId, Payload, SessionId, Text};

/// The origin of a cluster query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueryOrigin {
    /// The query's id, never used again: the event whose handling made it, and the index of the command.
    pub id: Text,
    /// The namespace of the event's client.
    pub namespace: Namespace,
    /// The client.
    pub client: SessionId,
    /// The client's io-node, which collects the answers.
    pub io_node: NodeId,
}

/// A question to all io-nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Answered when the io-node has carried out all earlier commands.
    Settled,
    /// The acknowledgements of these clients to an event.
    Acks {
        /// The clients.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
    },
    /// Which of these clients are connected.
    Clients {
        /// The clients.
        who: Audience,
        /// Maximum number of clients to describe; all are counted.
        most: u32,
    },
    /// Which channels of a namespace have clients.
    Channels {
        /// The namespace.
        namespace: Namespace,
        /// Maximum number of channels to name; all are counted.
        most: u32,
    },
}

/// One io-node's part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartialAnswer {
    /// To [`Question::Settled`].
    Settled,
    /// To [`Question::Acks`].
    Acks {
        /// The clients that acknowledged, with their arguments.
        answers: Vec<(SessionId, Payload)>,
        /// The clients that did not.
        missing: Vec<SessionId>,
    },
    /// To [`Question::Clients`].
    Clients {
        /// Number of these clients on the io-node.
        count: u32,
        /// The clients, up to the limit of the question.
        clients: Vec<ClientDescription>,
    },
    /// To [`Question::Channels`].
    Channels {
        /// Number of these channels on the io-node.
        count: u32,
        /// The channels, up to the limit of the question, each with the number of its clients on the io-node.
        channels: Vec<(Channel, u32)>,
    },
}

/// A connected client, as a query describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDescription {
    /// The session id.
    pub id: SessionId,
    /// Its attributes, a JSON object.
    pub attributes: Text,
    /// The channels that it is in.
    pub channels: Vec<Channel>,
}
