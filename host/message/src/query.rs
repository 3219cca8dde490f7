//! Cluster queries: a question to all io-nodes, and the part of each in the answer.

use serde::{Deserialize, Serialize};

use crate::{Audience, Channel, Namespace, NodeId, Payload, SessionId, Text};

/// The origin of a cluster query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asker {
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
        /// How many are described at most; all are counted.
        most: u32,
    },
    /// Which channels of a namespace have clients.
    Channels {
        /// The namespace.
        namespace: Namespace,
        /// How many are named at most; all are counted.
        most: u32,
    },
}

/// One io-node's part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
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
        /// How many there are.
        count: u32,
        /// As many of them as the question allows.
        clients: Vec<Present>,
    },
    /// To [`Question::Channels`].
    Channels {
        /// How many there are.
        count: u32,
        /// As many of them as the question allows, with the number of their clients here.
        channels: Vec<(Channel, u32)>,
    },
}

/// A connected client, as a query describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The session id.
    pub id: SessionId,
    /// Its attributes, a JSON object.
    pub attributes: Text,
    /// The channels that it is in.
    pub channels: Vec<Channel>,
}
