//! The seam of events.

use async_trait::async_trait;

use crate::{IoNode, IoSession, Leases, Result};
use plugnode_message::NodeId;

/// Carries events from io-nodes to app-nodes, and commands back. Dropping what a join returned leaves the cluster. Where other
/// nodes have to be reached for a promise, and cannot be, calls wait until they can.
#[async_trait]
pub trait Events: Send + Sync {
    /// Joins as an io-node, under a fresh incarnation: an earlier session under that name is fenced.
    async fn join_io(&self, node: IoNode) -> Result<IoSession>;

    /// Joins as an app-node. Partitions are dealt out evenly over all that have joined.
    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>>;

    /// Whether accepted events outlive this process, for others to handle.
    fn outlives_process(&self) -> bool {
        true
    }
}
