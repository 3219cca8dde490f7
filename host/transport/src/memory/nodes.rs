//! The members, and the last report of each app-node.

use async_trait::async_trait;

use super::Memory;
use crate::{IoNode, Nodes, Result};
use plugnode_message::NodeId;
use plugnode_release::NodeReport;

#[async_trait]
impl Nodes for Memory {
    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        let state = self.state();
        let listed = state.io_nodes.values().filter(|io| io.is_listed);
        let mut nodes: Vec<IoNode> = listed.map(|io| io.node.clone()).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    async fn unlist_io(&self, node: &NodeId) -> Result<()> {
        if let Some(io) = self.state().io_nodes.get_mut(node) {
            io.is_listed = false;
        }
        Ok(())
    }

    async fn report(&self, report: &NodeReport) -> Result<()> {
        let mut state = self.state();
        state.reports.insert(report.node.clone(), report.clone());
        Ok(())
    }

    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>> {
        let state = self.state();
        let told = |node: &NodeId| (node.clone(), state.reports.get(node).cloned());
        let mut nodes: Vec<_> = state.app_nodes.keys().map(told).collect();
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(nodes)
    }

    async fn timers(&self) -> Result<u64> {
        Ok(self.state().buckets.timers() as u64)
    }

    async fn backlog(&self) -> Result<u64> {
        let state = self.state();
        Ok(state
            .partitions
            .iter()
            .map(|partition| partition.open.events as u64)
            .sum())
    }
}
