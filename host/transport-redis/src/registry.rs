//! The board of releases and what app-nodes tell, in shard 0; components are in `components`.
//!
//! Board and reports are JSON, so that a person can read them with any client of Redis, and a node those of a newer version
//! as far as it knows them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::sleep;
use tracing::debug;

use super::data_watch::Losses;
use super::{Redis, bytes_of, components, scripts, unusable};
use plugnode_message::{NodeId, now_ms};
use plugnode_release::{Board, Digest, NodeReport};
use plugnode_transport::{Registry, Result};

/// How often it is looked for a change of the board. A person may wait for that.
const LOOKS: Duration = Duration::from_millis(100);
/// For how long the report of a node is kept that is not there, in milliseconds: it may be about to join.
const REPORT_KEPT_MS: u64 = 300_000;

#[async_trait]
impl Registry for Redis {
    async fn put_component(&self, bytes: Bytes) -> Result<Digest> {
        components::put(self, bytes).await
    }

    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        components::get(self, digest).await
    }

    async fn prune_components(&self) -> Result<()> {
        let (_, board) = self.board().await?;
        components::prune(self, &board).await;
        Ok(())
    }

    async fn board(&self) -> Result<(u64, Board)> {
        let key = self.layout.shard(0).key("board");
        let mut question = ::redis::cmd("HMGET");
        question.arg(&key[..]).arg("version").arg("content");
        let (version, content): (Option<String>, Option<Bytes>) = self.link.ask(&question).await;
        let Some(version) = version else {
            return Ok((0, Board::default()));
        };
        let content = content.unwrap_or_default();
        let read = version.parse().map_err(|_| format!("`{version}` is no version"));
        let read = read.and_then(|version| Ok((version, Board::read(&content)?)));
        read.map_err(|problem: String| {
            let key = String::from_utf8_lossy(&key);
            unusable(format!(
                "the board of releases in Redis at {} cannot be read: {problem}; use the version of plugnode that wrote it, \
                 or delete the key {key} to begin with the components of the config files",
                self.server
            ))
        })
    }

    async fn board_after(&self, version: u64) -> Result<(u64, Board)> {
        let mut question = ::redis::cmd("HGET");
        question.arg(&self.layout.shard(0).key("board")[..]).arg("version");
        let known = version.to_string();
        loop {
            let present: Option<String> = self.link.ask(&question).await;
            if present.as_deref().unwrap_or("0") != known {
                let (present, board) = self.board().await?;
                if present != version {
                    return Ok((present, board));
                }
            }
            sleep(LOOKS).await;
        }
    }

    async fn post_board(&self, version: u64, board: &Board) -> Result<bool> {
        let shard = self.layout.shard(0);
        let content =
            serde_json::to_vec(board).map_err(|error| unusable(format!("the board cannot be written: {error}")))?;
        let digest = Digest::of(&content);
        let arguments = [bytes_of(version), content.into(), bytes_of(digest)];
        Ok(self
            .change(&shard, &scripts::POST_BOARD, &[shard.key("board")], &arguments)
            .await)
    }

    async fn report(&self, report: &NodeReport) -> Result<()> {
        let content =
            serde_json::to_vec(report).map_err(|error| unusable(format!("a report cannot be written: {error}")))?;
        let mut tell = ::redis::cmd("HSET");
        tell.arg(&self.layout.shard(0).key("reports")[..])
            .arg(report.node.as_str())
            .arg(content);
        self.link.ask::<()>(&tell).await;
        Ok(())
    }

    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>> {
        let shard = self.layout.shard(0);
        let all = |name: &str| ::redis::cmd("HGETALL").arg(&shard.key(name)[..]).take();
        let (members, reports) = (all("app"), all("reports"));
        let (members, mut reports): (HashMap<String, String>, HashMap<String, Bytes>) =
            tokio::join!(self.link.ask(&members), self.link.ask(&reports));
        let mut nodes = Vec::new();
        for (name, incarnation) in members {
            let report = reports.remove(&name);
            // One that leaves takes no part any more.
            if !incarnation.ends_with('-') {
                let report = report.and_then(|report| read(&name, &report));
                nodes.push((NodeId::from(name), report));
            }
        }
        // Who only looks changes nothing.
        let forgettable = reports.into_iter().filter(|(_, report)| !self.visits && is_old(report));
        for (name, report) in forgettable {
            let arguments = [bytes_of(name), report];
            let keys = [shard.key("reports")];
            self.link.run::<()>(&scripts::FORGET_REPORT, &keys, &arguments).await;
        }
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(nodes)
    }

    async fn timers(&self) -> Result<u64> {
        super::timers::count(self).await.map_err(super::unusable)
    }

    async fn backlog(&self) -> Result<u64> {
        let mut backlog = 0;
        for shard in self.layout.all() {
            let all = |name: &str| ::redis::cmd("HGETALL").arg(&shard.key(name)[..]).take();
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
        let Losses { emptied, set_back } = self.data_watch.losses(0);
        Some(emptied + set_back)
    }
}

fn read(name: &str, report: &[u8]) -> Option<NodeReport> {
    match serde_json::from_slice(report) {
        Ok(report) => Some(report),
        Err(error) => {
            debug!(node = name, %error, "its report is of a version that is not known here");
            None
        }
    }
}

/// Whether a report is older than any of a node that is about to join.
fn is_old(report: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Time {
        at_ms: u64,
    }
    let time = serde_json::from_slice::<Time>(report);
    time.map_or(true, |time| time.at_ms.abs_diff(now_ms()) > REPORT_KEPT_MS)
}

#[cfg(test)]
mod tests;
