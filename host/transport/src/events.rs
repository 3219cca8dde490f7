//! The part of the transport for events: io-nodes and app-nodes join it to exchange events and commands.

use async_trait::async_trait;

use crate::{IoNode, IoSession, Leases, Result};
use plugnode_message::NodeId;

/// Carries events from io-nodes to app-nodes, and commands back. Dropping the result of a join leaves the cluster. While the
/// store cannot be reached, calls wait.
#[async_trait]
pub trait Events: Send + Sync {
    /// Joins as an io-node, under a fresh incarnation: an earlier session under that name is fenced.
    async fn join_io(&self, node: IoNode) -> Result<IoSession>;

    /// Joins as an app-node. Partitions are distributed evenly over all app-nodes that have joined.
    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>>;

    /// Whether accepted events survive the end of this process, so that another can handle them.
    fn outlives_process(&self) -> bool {
        true
    }
}
