//! Which io-nodes a command concerns.

use plugnode_message::{Command, DisconnectReason, Event, EventKind, Namespace, NodeId, SessionId};

/// The io-nodes that a command has to reach.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// All of them.
    Everyone,
    /// One, by name; none when there is no name.
    Node(Option<&'a NodeId>),
    /// Those that hold these clients.
    Holders(&'a Namespace, &'a [SessionId]),
}

impl<'a> Reach<'a> {
    /// Of a command that handling an event had.
    pub fn of(command: &'a Command, event: &'a Event) -> Self {
        let audience = match command {
            // The verdict is on the event's own client, which may have gone away meanwhile.
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

/// Whether the answers to a question cannot come together on the io-node of the client in whose name it is asked, since that
/// one has ended or is about to.
pub fn needs_another_asker(command: &Command, event: &Event) -> bool {
    use DisconnectReason::{NodeLost, ServerShutdown};
    let is_leaving =
        matches!(&event.kind, EventKind::Disconnect(gone) if matches!(gone.reason, NodeLost | ServerShutdown));
    is_leaving && matches!(command, Command::Ask { .. })
}

/// Has the answers come together on the first of these io-nodes that is another. Without one, the question stays as it is.
pub fn ask_by_another<'a>(command: &mut Command, nodes: impl Iterator<Item = &'a NodeId>) {
    let Command::Ask { asker, .. } = command else { return };
    if let Some(other) = nodes.filter(|node| **node != asker.io_node).min() {
        asker.io_node = other.clone();
    }
}
