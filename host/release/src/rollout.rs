//! A rollout: the release that is being rolled out, and its phase.

use serde::{Deserialize, Serialize};

use crate::canary::Canary;

/// A release that is being rolled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Number of the release.
    pub release: u64,
    /// The phase, for the whole cluster.
    pub phase: Phase,
    /// How it is compared with the current release before it is promoted, if at all.
    pub canary: Option<Canary>,
}

/// Phase of a rollout, the same for the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Every app-node fetches, compiles and starts it.
    Preparing,
    /// Trial: every app-node gives it its first events, one at a time.
    Trying,
    /// It handles a share of the partitions.
    Canary,
}
