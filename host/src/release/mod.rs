//! Releases: which component each app runs, which it is to run next, and what came of those before.
//!
//! All of it stands on one board that the whole cluster shares. Whoever changes the board reads it, decides, and puts the
//! changed one in its place if nobody else was faster; so of two changes at once, one follows the other, and every node sees
//! the same. There is no leader: each app-node takes a rollout a step further when what the nodes report allows it.
//!
//! Plain data and decisions. It waits for nothing, and knows neither transports nor WebAssembly.

mod canary;
mod digest;
mod report;
mod rollout;
mod track;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::canary::Canary;
pub use self::digest::{Digest, NoDigest};
pub use self::report::{AppReport, Counts, NodeReport, Peer, Progress, Stage};
pub use self::rollout::{Phase, Rollout};
pub use self::track::{Origin, Refused, Release, State, Target, Track};

use crate::message::Namespace;

/// How many releases of an app are remembered, when nothing else is configured.
pub const KEPT: usize = 10;

/// The releases of every app, by its namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Each app's releases.
    pub apps: BTreeMap<Namespace, Track>,
}

impl Board {
    /// Reads one as it was written, in JSON. What no version would have written is refused, in words.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let board: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match board.apps.iter().find(|(_, track)| !track.is_sound()) {
            Some((app, _)) => Err(format!(
                "the releases of app {app} lack the one in use, or the one that is rolled out"
            )),
            None => Ok(board),
        }
    }

    /// The components that any remembered release is made of.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let releases = self.apps.values().flat_map(|track| &track.releases);
        releases.map(|release| &release.digest)
    }
}
