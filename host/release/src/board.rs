//! The release board: the releases of every app, as the cluster shares them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::app_releases::AppReleases;
use crate::digest::Digest;
use plugnode_message::Namespace;

/// The releases of every app, by its namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Each app's releases.
    pub apps: BTreeMap<Namespace, AppReleases>,
}

impl Board {
    /// Parses a board from JSON.
    ///
    /// # Errors
    /// When it is not a board, or an app lacks the release that it names as current or as being rolled out.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let board: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match board.apps.iter().find(|(_, releases)| !releases.is_consistent()) {
            Some((app, _)) => Err(format!(
                "the releases of app {app} lack the current one or the one being rolled out"
            )),
            None => Ok(board),
        }
    }

    /// This board, completed from `known` after data loss: with the apps that this board lacks, and the releases of apps that
    /// have started over with fewer. None if nothing is missing.
    pub fn recovered(&self, known: &Self) -> Option<Self> {
        let mut recovered = self.clone();
        for (app, releases) in &known.apps {
            let present = self.apps.get(app);
            if present.is_none_or(|present| present != releases && present.newest() <= releases.newest()) {
                recovered.apps.insert(app.clone(), releases.clone());
            }
        }
        (recovered != *self).then_some(recovered)
    }

    /// Whether this board is `known` or a later state of it: it has the newest release that `known` has of each app.
    pub fn descends_from(&self, known: &Self) -> bool {
        known.apps.iter().all(|(app, releases)| {
            self.apps
                .get(app)
                .is_some_and(|present| present.descends_from(releases))
        })
    }

    /// The components of all remembered releases.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let releases = self.apps.values().flat_map(|app| &app.releases);
        releases.map(|release| &release.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ComponentFile, DEFAULT_KEPT_RELEASES};

    fn releases(file: &str, count: u64) -> AppReleases {
        let component = |number: u64| ComponentFile {
            digest: Digest::of(format!("{file} {number}").as_bytes()),
            file: file.into(),
            bytes: 1,
        };
        let mut releases = AppReleases::configured(component(1), 0, DEFAULT_KEPT_RELEASES);
        for number in 2..=count {
            releases.deploy(component(number), None, 0).unwrap();
        }
        releases
    }

    fn board(apps: &[(&str, &AppReleases)]) -> Board {
        let apps = apps.iter().map(|(app, releases)| ((*app).into(), (*releases).clone()));
        Board { apps: apps.collect() }
    }

    #[test]
    fn recovers_lost_releases_over_first_ones() {
        let (known, first, deployed) = (releases("known", 3), releases("configured", 1), releases("new", 4));
        let all = board(&[("/a", &known), ("/b", &known)]);
        assert_eq!(Board::default().recovered(&all), Some(all.clone()));
        let restarted = board(&[("/b", &first), ("/c", &first)]);
        let recovered = board(&[("/a", &known), ("/b", &known), ("/c", &first)]);
        assert_eq!(restarted.recovered(&all), Some(recovered), "other apps stay");
        assert_eq!(all.recovered(&all), None);
        let ahead = board(&[("/a", &known), ("/b", &deployed)]);
        assert_eq!(ahead.recovered(&all), None, "it has a newer release");
    }
}
