//! What an app-node tells of itself: what it runs, how that goes, and how far it is with a rollout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use plugnode_message::{Namespace, NodeId};

/// A node's latest words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who tells it.
    pub node: NodeId,
    /// When, in milliseconds since the Unix epoch, by its own clock.
    pub at_ms: u64,
    /// Its apps.
    pub apps: BTreeMap<Namespace, AppReport>,
    /// Those of its apps whose handlers are native Rust, which have no releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub native: Vec<Namespace>,
}

/// One app on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppReport {
    /// The number of the release in use.
    pub release: u64,
    /// Its component.
    pub digest: Digest,
    /// Its instances.
    pub instances: usize,
    /// Events that were read and are not committed.
    pub in_hand: u64,
    /// How the release in use does.
    pub counts: Counts,
    /// How far the node is with a release that is to be taken into use.
    pub progress: Option<Progress>,
    /// Whether all instances of the release have begun, and so have got the state of those before them, or not.
    #[serde(default)]
    pub have_begun: bool,
    /// Whether the release in use has answered an event here.
    #[serde(default)]
    pub has_answered: bool,
    /// Why it failed its first event here, if it has answered none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Instances that began without the state of those before them, since the last swap, and why.
    #[serde(default)]
    pub states_refused: Vec<String>,
}

/// How far a node is with a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The release.
    pub release: u64,
    /// How far.
    pub stage: Stage,
    /// How it does, once it is given events.
    pub counts: Counts,
}

/// How far a node is with a release that is to be taken into use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It asks for the component.
    Fetching,
    /// It compiles it.
    Compiling,
    /// It makes instances.
    Starting,
    /// Instances wait for their first events.
    Ready,
    /// They have answered their first events.
    Proven,
    /// It cannot be used here, for this reason: the rollout is over.
    Failed(String),
    /// The cluster uses it already and this node cannot yet, for this reason. It goes on trying.
    Behind(String),
}

/// How a release does on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Events handled since it was given any.
    pub events: u64,
    /// How many of these failed. For a release on trial, those that the one in use has handled then: what fails with both is the
    /// event's own fault.
    pub failures: u64,
    /// Events a second, of late.
    pub per_second: f64,
    /// Time in the handler of late, in microseconds: half of the events took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// All times since it was given events, in microseconds, with how many took so long. Told only while two
    /// releases are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<(u64, u64)>,
}

/// An app-node that is there, as far as one app goes.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name.
    pub node: &'a NodeId,
    /// What it tells of the app. None when it has told nothing yet.
    pub app: Option<&'a AppReport>,
}

impl Peer<'_> {
    /// Whether it can give the release its first events, or has.
    pub(super) fn is_ready(&self, release: u64) -> bool {
        matches!(self.stage(release), Some(Stage::Ready | Stage::Proven))
    }

    /// Whether the release has answered its first events there, or there were none of late that it could have got.
    pub(super) fn has_tried(&self, release: u64) -> bool {
        let is_quiet = |app: &AppReport| {
            let on_trial = app.progress.as_ref().map_or(0, |progress| progress.counts.events);
            app.in_hand + on_trial == 0 && app.counts.per_second == 0.0
        };
        self.stage(release) == Some(&Stage::Proven) || self.app.is_some_and(is_quiet)
    }

    /// Whether the release has answered its first events there, on trial.
    pub(super) fn is_proven(&self, release: u64) -> bool {
        self.stage(release) == Some(&Stage::Proven)
    }

    /// Whether the release is in use there, and has answered an event.
    pub(super) fn has_answered(&self, release: u64) -> bool {
        self.app.is_some_and(|app| app.release == release && app.has_answered)
    }

    /// Why the release, which is in use there, has failed an event, if it has answered none.
    pub(super) fn trouble(&self, release: u64) -> Option<String> {
        let app = self.app.filter(|app| app.release == release)?;
        Some(format!("on {}: {}", self.node, app.trouble.as_ref()?))
    }

    /// How far it is with a release.
    pub(super) fn stage(&self, release: u64) -> Option<&Stage> {
        let progress = self.app?.progress.as_ref()?;
        (progress.release == release).then_some(&progress.stage)
    }
}

impl Counts {
    /// What several nodes tell, together. The times are all of those, and not only those of late.
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

    /// How many of a hundred events failed.
    pub fn failure_rate(&self) -> f64 {
        100.0 * self.failures as f64 / self.events.max(1) as f64
    }

    /// The time that so many of a hundred events did not exceed, by all times, which are in order.
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
