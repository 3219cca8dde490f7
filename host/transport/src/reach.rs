//! The routing of commands: the io-nodes that a command has to reach.

use plugnode_message::{Command, DisconnectReason, Event, EventKind, Namespace, NodeId, SessionId};

/// The io-nodes that a command has to reach.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// All io-nodes.
    Everyone,
    /// One io-node by name. None: no io-node.
    Node(Option<&'a NodeId>),
    /// The io-nodes that hold these clients.
    Holders(&'a Namespace, &'a [SessionId]),
}

impl<'a> Reach<'a> {
    /// The reach of a command that the handling of this event produced.
    pub fn of(command: &'a Command, event: &'a Event) -> Self {
        let audience = match command {
            // The event's own client may have disconnected meanwhile, so its io-node is not looked up.
            Command::Publish { local: true, .. } | Command::Admit { .. } => {
                return Self::Node(event.client.as_ref().map(|client| &client.io_node));
            }
            Command::Publish { to: audience, .. }
            | Command::Request { to: audience, .. }
            | Command::Subscribe { who: audience, .. }
            | Command::Unsubscribe { who: audience, .. }
            | Command::Disconnect { who: audience, .. } => audience,
            Command::Ack { id, .. } => return Self::Holders(&id.namespace, std::slice::from_ref(&id.client)),
            Command::PatchAttributes { namespace, client, .. } | Command::Fire { namespace, client, .. } => {
                return Self::Holders(namespace, std::slice::from_ref(client));
            }
            Command::Custom {
                io_node: Some(node), ..
            } => return Self::Node(Some(node)),
            Command::Custom { io_node: None, .. } | Command::Ask { .. } => return Self::Everyone,
            Command::Answer { asker, .. } => return Self::Node(Some(&asker.io_node)),
        };
        match audience.clients_only() {
            Some(clients) => Self::Holders(&audience.namespace, clients),
            None => Self::Everyone,
        }
    }
}

/// Whether the asker's io-node cannot collect the answers to a cluster query, because it has ended or is about to.
pub fn needs_another_asker(command: &Command, event: &Event) -> bool {
    use DisconnectReason::{NodeLost, ServerShutdown};
    let is_leaving =
        matches!(&event.kind, EventKind::Disconnect(gone) if matches!(gone.reason, NodeLost | ServerShutdown));
    is_leaving && matches!(command, Command::Ask { .. })
}

/// Lets the first other io-node collect the answers. Without another, the query stays as it is.
pub fn ask_by_another<'a>(command: &mut Command, nodes: impl Iterator<Item = &'a NodeId>) {
    let Command::Ask { asker, .. } = command else { return };
    if let Some(other) = nodes.filter(|node| **node != asker.io_node).min() {
        asker.io_node = other.clone();
    }
}
