//! Reports of app-nodes: which release each app runs, how it performs, and the progress of a rollout on that node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use plugnode_message::{Namespace, NodeId};

/// The latest report of an app-node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// Time of the report, in milliseconds since the Unix epoch, by the node's clock.
    pub at_ms: u64,
    /// Its apps with components.
    pub apps: BTreeMap<Namespace, AppReport>,
    /// Its apps with native Rust handlers, which have no releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub native: Vec<Namespace>,
}

/// The report on one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppReport {
    /// Number of the release that the node runs.
    pub release: u64,
    /// Its component.
    pub digest: Digest,
    /// Number of instances.
    pub instances: usize,
    /// Events that the node has read and not yet committed.
    pub in_hand: u64,
    /// Counts of the release that the node runs.
    pub counts: Counts,
    /// Progress with a release that is being rolled out.
    pub progress: Option<ReleaseProgress>,
    /// Whether all instances have started, and so have taken over the state of their predecessors or failed to.
    #[serde(default)]
    pub have_begun: bool,
    /// Whether the release has handled an event successfully on this node.
    #[serde(default)]
    pub has_answered: bool,
    /// Why its first event failed on this node, while none was handled successfully.
    #[serde(rename = "trouble", default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    /// Instances that started without the state of their predecessor since the last swap, with the reasons.
    #[serde(default)]
    pub states_refused: Vec<String>,
}

/// Progress of a node with a release that is being rolled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseProgress {
    /// Number of the release.
    pub release: u64,
    /// Stage on this node.
    pub stage: NodeStage,
    /// Counts of the events that it was given.
    pub counts: Counts,
}

/// Stage of a release on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeStage {
    /// The node fetches the component.
    Fetching,
    /// The node compiles it.
    Compiling,
    /// The node creates instances.
    Starting,
    /// The instances can take their first events.
    Ready,
    /// The instances have handled their first events successfully.
    Proven,
    /// It cannot run here, for this reason. This ends the rollout.
    Failed(String),
    /// It is current in the cluster, but cannot run here yet, for this reason. The node retries.
    Behind(String),
}

/// Counts of the events that a release handled on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Events handled since its first.
    pub events: u64,
    /// Failed events. For a release on trial, only those that the current release then handled: an event that fails with both
    /// is at fault itself.
    pub failures: u64,
    /// Recent events per second.
    pub per_second: f64,
    /// Median of the recent handling times, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of the recent handling times, in microseconds.
    pub p99_us: u64,
    /// Histogram of all handling times since its first event: microseconds and number of events. Reported only while two
    /// releases are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<(u64, u64)>,
}

/// A live app-node and its report on one app.
#[derive(Debug, Clone, Copy)]
pub struct NodeStatus<'a> {
    /// Name of the node.
    pub node: &'a NodeId,
    /// None before the node's first report.
    pub app: Option<&'a AppReport>,
}

impl NodeStatus<'_> {
    /// Whether the release can take its first events on this node, or has.
    pub(crate) fn is_ready(&self, release: u64) -> bool {
        matches!(self.stage(release), Some(NodeStage::Ready | NodeStage::Proven))
    }

    /// Whether the release has handled its first events on this node, or there are no events it could be given.
    pub(crate) fn has_tried(&self, release: u64) -> bool {
        let is_quiet = |app: &AppReport| {
            let on_trial = app.progress.as_ref().map_or(0, |progress| progress.counts.events);
            app.in_hand + on_trial == 0 && app.counts.per_second == 0.0
        };
        self.stage(release) == Some(&NodeStage::Proven) || self.app.is_some_and(is_quiet)
    }

    /// Whether the release has handled its first events on this node, on trial.
    pub(crate) fn is_proven(&self, release: u64) -> bool {
        self.stage(release) == Some(&NodeStage::Proven)
    }

    /// Whether this node runs the release, and has handled an event with it.
    pub(crate) fn has_answered(&self, release: u64) -> bool {
        self.app.is_some_and(|app| app.release == release && app.has_answered)
    }

    /// Why the first event of the release failed on this node, if the node runs it and it has handled none.
    pub(crate) fn first_failure(&self, release: u64) -> Option<String> {
        let app = self.app.filter(|app| app.release == release)?;
        Some(format!("on {}: {}", self.node, app.first_failure.as_ref()?))
    }

    /// The stage of the release on this node.
    pub(crate) fn stage(&self, release: u64) -> Option<&NodeStage> {
        let progress = self.app?.progress.as_ref()?;
        (progress.release == release).then_some(&progress.stage)
    }
}

impl Counts {
    /// The total over several nodes. Percentiles are those of all handling times, not only of recent ones.
    pub fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for counts in counts {
            sum.events += counts.events;
            sum.failures += counts.failures;
            sum.per_second += counts.per_second;
            sum.times.extend(&counts.times);
        }
        sum.times.sort_unstable();
        sum.p50_us = sum.percentile(50);
        sum.p99_us = sum.percentile(99);
        sum
    }

    /// Failed events in percent.
    pub fn failure_rate(&self) -> f64 {
        100.0 * self.failures as f64 / self.events.max(1) as f64
    }

    /// Percentile of `times`, which must be sorted.
    fn percentile(&self, percent: u64) -> u64 {
        let all: u64 = self.times.iter().map(|(_, count)| count).sum();
        let mut left = all.saturating_mul(percent).div_ceil(100);
        for (time, count) in &self.times {
            left = left.saturating_sub(*count);
            if left == 0 {
                return *time;
            }
        }
        0
    }
}
