//! Routing of commands: the io-nodes that a command has to reach.

use plugnode_message::{Command, Destination, DisconnectReason, Event, EventKind, Namespace, NodeId, SessionId};

/// The io-nodes that a command has to reach.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandTarget<'a> {
    /// All io-nodes.
    Everyone,
    /// One io-node by name. None: no io-node.
    Node(Option<&'a NodeId>),
    /// The io-nodes that hold these clients.
    Holders(&'a Namespace, &'a [SessionId]),
}

impl<'a> CommandTarget<'a> {
    /// The target of a command that the handling of this event produced.
    pub fn of(command: &'a Command, event: &'a Event) -> Self {
        match command.destination() {
            Destination::AllIoNodes => Self::Everyone,
            Destination::IoNode(io_node) => Self::Node(Some(io_node)),
            // The event's own client may have disconnected meanwhile, so its io-node is not looked up.
            Destination::OwnIoNode => Self::Node(event.client.as_ref().map(|client| &client.io_node)),
            Destination::Clients(namespace, clients) => Self::Holders(namespace, clients),
        }
    }
}

/// Whether the io-node of a query's origin cannot collect its answers, because it has ended or is about to.
pub fn needs_another_collector(command: &Command, event: &Event) -> bool {
    use DisconnectReason::{NodeLost, ServerShutdown};
    let is_leaving =
        matches!(&event.kind, EventKind::Disconnect(gone) if matches!(gone.reason, NodeLost | ServerShutdown));
    is_leaving && matches!(command, Command::Ask { .. })
}

/// Lets the first other io-node collect the answers. Without another, the query stays as it is.
pub fn collect_at_another<'a>(command: &mut Command, nodes: impl Iterator<Item = &'a NodeId>) {
    let Command::Ask { origin, .. } = command else { return };
    if let Some(other) = nodes.filter(|node| **node != origin.io_node).min() {
        origin.io_node = other.clone();
    }
}
