//! The part of the transport for nodes: the members of the cluster, their reports, and the number of open events.

use async_trait::async_trait;

use super::{IoNode, LeaseHealth, Result};
use plugnode_message::NodeId;
use plugnode_release::NodeReport;

/// Knows the nodes of the cluster. While the store cannot be reached, calls wait.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The io-nodes that take new clients.
    async fn io_nodes(&self) -> Result<Vec<IoNode>>;

    /// Takes an io-node that is about to leave off the list of [`io_nodes`](Self::io_nodes).
    async fn unlist_io(&self, _node: &NodeId) -> Result<()> {
        Ok(())
    }

    /// Whether this process renews its leases in the cluster in time.
    fn lease_health(&self) -> LeaseHealth {
        LeaseHealth::default()
    }

    /// Stores the report of a node, in place of its last one.
    async fn report(&self, report: &NodeReport) -> Result<()>;

    /// The app-nodes that have joined, each with its last report.
    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>>;

    /// Number of open events: accepted and not committed.
    async fn backlog(&self) -> Result<u64>;

    /// Number of timers.
    async fn timers(&self) -> Result<u64>;

    /// Number of data losses since the process started, such as a Redis that was emptied. None: data live only as long as the process.
    fn data_losses(&self) -> Option<u64> {
        None
    }
}
