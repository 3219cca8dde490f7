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
pub use self::rollout::{PREPARATION, Phase, Rollout};
pub use self::track::{Author, Origin, Refused, Release, State, Target, Track};

use plugnode_message::Namespace;

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

    /// This board with what `known` has of apps that it lacks, or that have begun anew: what is to be posted when this stands
    /// where the data of `known` were lost. None when it lacks nothing.
    pub fn recovered(&self, known: &Self) -> Option<Self> {
        let mut recovered = self.clone();
        for (app, track) in &known.apps {
            let present = self.apps.get(app);
            if present.is_none_or(|present| present != track && present.newest() <= track.newest()) {
                recovered.apps.insert(app.clone(), track.clone());
            }
        }
        (recovered != *self).then_some(recovered)
    }

    /// Whether this is the board `known` at the same or a later time, by the newest release of each app.
    pub fn goes_on_from(&self, known: &Self) -> bool {
        known
            .apps
            .iter()
            .all(|(app, track)| self.apps.get(app).is_some_and(|present| present.goes_on_from(track)))
    }

    /// The components that any remembered release is made of.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let releases = self.apps.values().flat_map(|track| &track.releases);
        releases.map(|release| &release.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(file: &str, releases: u64) -> Track {
        let target = |number: u64| Target {
            digest: Digest::of(format!("{file} {number}").as_bytes()),
            file: file.into(),
            bytes: 1,
        };
        let mut track = Track::first(target(1), 0, KEPT);
        for number in 2..=releases {
            track.deploy(target(number), None, 0).unwrap();
        }
        track
    }

    fn board(tracks: &[(&str, &Track)]) -> Board {
        let apps = tracks.iter().map(|(app, track)| ((*app).into(), (*track).clone()));
        Board { apps: apps.collect() }
    }

    #[test]
    fn lost_releases_take_the_place_of_first_ones() {
        let (known, first, deployed) = (track("known", 3), track("configured", 1), track("new", 4));
        let all = board(&[("/a", &known), ("/b", &known)]);
        assert_eq!(Board::default().recovered(&all), Some(all.clone()));
        let begun = board(&[("/b", &first), ("/c", &first)]);
        let recovered = board(&[("/a", &known), ("/b", &known), ("/c", &first)]);
        assert_eq!(begun.recovered(&all), Some(recovered), "what is of other apps stays");
        assert_eq!(all.recovered(&all), None);
        let ahead = board(&[("/a", &known), ("/b", &deployed)]);
        assert_eq!(ahead.recovered(&all), None, "more was deployed since");
    }
}
