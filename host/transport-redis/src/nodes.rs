//! The nodes of the cluster and the reports of app-nodes, in shard 0.
//!
//! Reports are JSON: readable with any Redis client, and unknown fields of a newer version are ignored.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tracing::debug;

use crate::app_node::timers;
use crate::arguments::bytes_of;
use crate::data_watch::LossCounts;
use crate::error::unusable;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::{NodeId, now_ms};
use plugnode_release::NodeReport;
use plugnode_transport::{IoNode, LeaseHealth, Nodes, Result};

/// Retention of the report of an absent node, in milliseconds, because it may be about to join.
const REPORT_RETENTION_MS: u64 = 300_000;

/// Value of the hash `info`: the address of an io-node, as JSON.
#[derive(Deserialize)]
struct StoredAddress {
    host: String,
    port: u16,
    #[serde(default)]
    probes: Vec<String>,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    path: String,
}

#[async_trait]
impl Nodes for Redis {
    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        let shard = self.layout.shard(0);
        let mut names = redis::cmd("HKEYS");
        let names: Vec<String> = self
            .link
            .try_ask(names.arg(&shard.key("io")[..]))
            .await
            .map_err(unusable)?;
        let mut addresses = redis::cmd("HGETALL");
        let addresses: Vec<(String, String)> = self
            .link
            .try_ask(addresses.arg(&shard.key("info")[..]))
            .await
            .map_err(unusable)?;
        let present = addresses.into_iter().filter(|(name, _)| names.contains(name));
        let mut nodes: Vec<IoNode> = present
            .filter_map(|(name, address)| {
                let address: StoredAddress = serde_json::from_str(&address).ok()?;
                Some(IoNode {
                    id: name.into(),
                    host: address.host,
                    port: address.port,
                    probes: address.probes,
                    scheme: address.scheme,
                    path: address.path,
                })
            })
            .collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    async fn unlist_io(&self, node: &NodeId) -> Result<()> {
        let mut forget = redis::cmd("HDEL");
        forget.arg(&self.layout.shard(0).key("info")[..]).arg(node.as_str());
        self.link.try_ask::<()>(&forget).await.map_err(unusable)
    }

    fn lease_health(&self) -> LeaseHealth {
        self.lease_health.clone()
    }

    async fn report(&self, report: &NodeReport) -> Result<()> {
        let content =
            serde_json::to_vec(report).map_err(|error| unusable(format!("a report cannot be written: {error}")))?;
        let mut write = redis::cmd("HSET");
        write
            .arg(&self.layout.shard(0).key("reports")[..])
            .arg(report.node.as_str())
            .arg(content);
        self.link.ask::<()>(&write).await;
        Ok(())
    }

    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>> {
        let shard = self.layout.shard(0);
        let all = |name: &str| redis::cmd("HGETALL").arg(&shard.key(name)[..]).take();
        let (members, reports) = (all("app"), all("reports"));
        let (members, mut reports): (HashMap<String, String>, HashMap<String, Bytes>) =
            tokio::join!(self.link.ask(&members), self.link.ask(&reports));
        let mut nodes = Vec::new();
        for (name, incarnation) in members {
            let report = reports.remove(&name);
            // Skips leaving nodes.
            if !incarnation.ends_with('-') {
                let report = report.and_then(|report| read(&name, &report));
                nodes.push((NodeId::from(name), report));
            }
        }
        // A read-only connection deletes nothing.
        let forgettable = reports
            .into_iter()
            .filter(|(_, report)| !self.is_read_only && is_old(report));
        for (name, report) in forgettable {
            let arguments = [bytes_of(name), report];
            let keys = [shard.key("reports")];
            self.link.run::<()>(&scripts::FORGET_REPORT, &keys, &arguments).await;
        }
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(nodes)
    }

    async fn timers(&self) -> Result<u64> {
        timers::count(self).await.map_err(unusable)
    }

    async fn backlog(&self) -> Result<u64> {
        let mut backlog = 0;
        for shard in self.layout.all() {
            let all = |name: &str| redis::cmd("HGETALL").arg(&shard.key(name)[..]).take();
            let taken: HashMap<String, u64> = self.link.ask(&all("in")).await;
            let done: HashMap<String, String> = self.link.ask(&all("done")).await;
            for partition in self.layout.partitions_of(shard.number) {
                let partition = partition.to_string();
                let committed = done
                    .get(&partition)
                    .and_then(|done| done.split(' ').next()?.parse().ok());
                let taken = taken.get(&partition).copied().unwrap_or(0);
                backlog += taken.saturating_sub(committed.unwrap_or(0));
            }
        }
        Ok(backlog)
    }

    fn data_losses(&self) -> Option<u64> {
        // The board is in shard 0.
        let LossCounts { emptied, set_back } = self.data_watch.losses(0);
        Some(emptied + set_back)
    }
}

/// Parses the report of a node.
pub(crate) fn read(name: &str, report: &[u8]) -> Option<NodeReport> {
    match serde_json::from_slice(report) {
        Ok(report) => Some(report),
        Err(error) => {
            debug!(node = name, %error, "the report of a node cannot be read: it may be of another version");
            None
        }
    }
}

/// Whether the retention of a report has expired, or it has no readable time.
pub(crate) fn is_old(report: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Time {
        at_ms: u64,
    }
    let time = serde_json::from_slice::<Time>(report);
    time.map_or(true, |time| time.at_ms.abs_diff(now_ms()) > REPORT_RETENTION_MS)
}
