//! Commands: what app-nodes ask of io-nodes.

use std::slice;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fired::Fired;
use crate::{
    AckId, Audience, CallAnswer, CallOutcome, Channel, Namespace, NodeId, PartialAnswer, Payload, QueryOrigin,
    Question, Scope, Selection, SessionId, Text,
};

/// A command of an app-node to io-nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Emit an event to clients.
    Publish {
        /// The recipients.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
        /// Whether clients that cannot take it at once may miss it.
        volatile: bool,
        /// Whether it goes only to clients on the io-node of the event's own client.
        local: bool,
    },
    /// Add clients to channels.
    Subscribe {
        /// The clients.
        who: Audience,
        /// The channels.
        channels: Vec<Channel>,
    },
    /// Remove clients from channels.
    Unsubscribe {
        /// The clients.
        who: Audience,
        /// The channels.
        channels: Vec<Channel>,
    },
    /// Acknowledge an event of a client.
    Ack {
        /// The acknowledgement.
        id: AckId,
        /// Its arguments.
        args: Payload,
    },
    /// Emit an event, and hand each client's acknowledgement to the app as a reply event.
    Request {
        /// The recipients.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
        /// Time limit of each acknowledgement.
        timeout_ms: u32,
        /// Comes back with each reply.
        token: Bytes,
    },
    /// Disconnect clients.
    Disconnect {
        /// The clients.
        who: Audience,
        /// Whether to close the whole connection rather than leave the namespace.
        close_transport: bool,
    },
    /// Change a client's attributes by a JSON merge patch.
    PatchAttributes {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// The patch, a JSON object.
        patch: Text,
        /// The sequence of the event that made the patch, if it is an event of this client; else 0.
        number: u64,
    },
    /// A message to the program that embeds io-nodes.
    Custom {
        /// The io-node; None for all.
        io_node: Option<NodeId>,
        /// Its kind.
        kind: Text,
        /// Its content.
        data: Bytes,
    },
    /// Admit or refuse a client that waits for admission. The first command of its connection's effects.
    Admit {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// None admits the client.
        refusal: Option<Refusal>,
    },
    /// Ask all io-nodes. The io-node of the query's origin collects their answers into one reply event.
    Ask {
        /// The client whose event asks.
        origin: QueryOrigin,
        /// The question.
        question: Question,
        /// Time limit of the whole answer.
        timeout_ms: u32,
        /// Comes back with the answer.
        token: Bytes,
    },
    /// One io-node's answer to an [`Ask`](Self::Ask), to the io-node of the query's origin.
    Answer {
        /// The client whose event asked.
        origin: QueryOrigin,
        /// The io-node that answers.
        from: NodeId,
        /// Its part of the answer.
        part: PartialAnswer,
    },
    /// A timer of a client fired: its io-node makes an event of it.
    Fire {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// Which timer.
        fired: Fired,
        /// The kind of the event.
        kind: Text,
        /// Its content.
        data: Bytes,
    },
    /// The answer to a call of the server API, to its API node.
    CallAnswer(CallAnswer),
}

impl Command {
    /// Size in bytes, as limits count it. Names and flags count as a constant.
    pub fn size(&self) -> usize {
        const FIXED: usize = 64;
        let audience = |who: &Audience| {
            let listed = |some: &Selection| some.clients.len() + some.channels.len();
            let to = match &who.to {
                Scope::Only(some) => listed(some),
                Scope::All => 0,
            };
            FIXED * (to + listed(&who.except))
        };
        FIXED
            + match self {
                Self::Publish { to, event, args, .. } => audience(to) + event.len() + args.size(),
                Self::Request {
                    to, event, args, token, ..
                } => audience(to) + event.len() + args.size() + token.len(),
                Self::Subscribe { who, channels } | Self::Unsubscribe { who, channels } => {
                    audience(who) + FIXED * channels.len()
                }
                Self::Ack { args, .. } => args.size(),
                Self::Disconnect { who, .. } => audience(who),
                Self::PatchAttributes { patch, .. } => patch.len(),
                Self::Custom { data, .. } => data.len(),
                Self::Fire { fired, kind, data, .. } => fired.key.len() + kind.len() + data.len(),
                Self::Ask {
                    question: Question::Acks { args, .. },
                    token,
                    ..
                } => args.size() + token.len(),
                Self::Ask { token, .. } => token.len(),
                Self::Admit { .. } | Self::Answer { .. } => FIXED,
                Self::CallAnswer(CallAnswer { outcome, .. }) => match outcome {
                    CallOutcome::Done { answer, .. } => answer.as_ref().map_or(0, Payload::size),
                    CallOutcome::Acknowledged(answer) => answer.size(),
                    CallOutcome::Refused(reason) => reason.len(),
                    CallOutcome::KeyReused | CallOutcome::Failed(_) => 0,
                },
            }
    }

    /// The clients or io-nodes that this command goes to.
    pub fn destination(&self) -> Destination<'_> {
        match self {
            Self::Publish { local: true, .. } | Self::Admit { .. } => Destination::OwnIoNode,
            Self::Publish { to: audience, .. }
            | Self::Request { to: audience, .. }
            | Self::Subscribe { who: audience, .. }
            | Self::Unsubscribe { who: audience, .. }
            | Self::Disconnect { who: audience, .. } => match audience.clients_only() {
                Some(clients) => Destination::Clients(&audience.namespace, clients),
                None => Destination::AllIoNodes,
            },
            Self::Ack { id, .. } => Destination::Clients(&id.namespace, slice::from_ref(&id.client)),
            Self::PatchAttributes { namespace, client, .. } | Self::Fire { namespace, client, .. } => {
                Destination::Clients(namespace, slice::from_ref(client))
            }
            Self::Custom {
                io_node: Some(io_node), ..
            } => Destination::IoNode(io_node),
            Self::Custom { io_node: None, .. } | Self::Ask { .. } => Destination::AllIoNodes,
            Self::Answer { origin, .. } => Destination::IoNode(&origin.io_node),
            Self::CallAnswer(answer) => Destination::IoNode(&answer.api_node),
        }
    }

    /// Whether this refuses a client.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Admit { refusal: Some(_), .. })
    }
}

/// Where a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// All io-nodes.
    AllIoNodes,
    /// This io-node.
    IoNode(&'a NodeId),
    /// The io-node of the client whose event is handled. That client may have disconnected meanwhile.
    OwnIoNode,
    /// The io-nodes that hold these clients of a namespace.
    Clients(&'a Namespace, &'a [SessionId]),
}

/// Why a client is refused, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Text for people.
    pub message: Text,
    /// A JSON value for programs.
    pub data: Option<Text>,
}
