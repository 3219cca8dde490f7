//! The releases of one app, and the operations on them: deploy, roll back, promote, revert.

use serde::{Deserialize, Serialize};

use crate::canary::Canary;
use crate::release::{Author, ComponentFile, Origin, Release, ReleaseState};
use crate::rollout::{Phase, Rollout};

/// Default number of releases that are remembered for each app.
pub const DEFAULT_KEPT_RELEASES: usize = 10;

/// The releases of one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppReleases {
    /// Number of the current release: the one in use.
    pub current: u64,
    /// The remembered releases, oldest first. The current one and the one being rolled out are always among them.
    pub releases: Vec<Release>,
    /// The rollout in progress, if any.
    pub rollout: Option<Rollout>,
    /// Maximum number of releases to keep.
    pub kept: usize,
}

/// Why a release cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The component is in use, and no other is being rolled out.
    #[error("release {0} has the same component and is already in use")]
    InUse(u64),
    /// The component is being rolled out.
    #[error("release {0} has the same component and is already being rolled out")]
    RollingOut(u64),
    /// There is no earlier release to roll back to.
    #[error(
        "cannot roll back: no release before {0} was in use; choose one of `plugnode releases` and run `plugnode rollback NUMBER`"
    )]
    NothingBefore(u64),
    /// There is no such release.
    #[error("there is no release {0}; `plugnode releases` lists all")]
    Unknown(String),
    /// The release never was in use.
    #[error(
        "cannot roll back to release {number}: it never was in use, because it {state}; deploy its component to try again"
    )]
    NeverInUse {
        /// The release.
        number: u64,
        /// Its state, in words.
        state: String,
    },
}

impl AppReleases {
    /// Whether the current release and the one being rolled out are remembered.
    pub(crate) fn is_consistent(&self) -> bool {
        let is_known = |number: u64| self.release(number).is_some();
        is_known(self.current) && self.rollout.as_ref().is_none_or(|rollout| is_known(rollout.release))
    }

    /// The release with this number, if it is remembered.
    pub fn release(&self, number: u64) -> Option<&Release> {
        self.releases.iter().find(|release| release.number == number)
    }

    /// The current release.
    pub fn in_use(&self) -> &Release {
        self.release(self.current)
            .expect("the current release is always remembered")
    }

    /// The release being rolled out, if one is.
    pub fn rolling_out(&self) -> Option<&Release> {
        self.release(self.rollout.as_ref()?.release)
    }

    /// Starts to roll out a component, in place of any rollout in progress. Returns the number of the new release.
    ///
    /// # Errors
    /// When the component is being rolled out already, or is in use and no other is being rolled out.
    pub fn deploy(
        &mut self,
        component: ComponentFile,
        canary: Option<Canary>,
        now_ms: u64,
    ) -> Result<u64, ReleaseError> {
        self.roll_out_if_new(component, Origin::Deploy, canary, now_ms)
    }

    /// Like [`deploy`](Self::deploy), for `plugnode dev`: the release becomes current without a trial as soon as it has started,
    /// so that the next event is handled by the code just saved.
    pub fn deploy_saved(&mut self, component: ComponentFile, now_ms: u64) -> Result<u64, ReleaseError> {
        self.roll_out_if_new(component, Origin::Save, None, now_ms)
    }

    fn roll_out_if_new(
        &mut self,
        component: ComponentFile,
        origin: Origin,
        canary: Option<Canary>,
        now_ms: u64,
    ) -> Result<u64, ReleaseError> {
        if let Some(release) = self.rolling_out() {
            if release.digest == component.digest {
                return Err(ReleaseError::RollingOut(release.number));
            }
        } else if self.in_use().digest == component.digest {
            return Err(ReleaseError::InUse(self.current));
        }
        Ok(self.roll_out(component, origin, canary, now_ms))
    }

    /// Starts to roll out the component of an earlier release. `to` is its number or the first digits of its digest, at least
    /// 6. Without `to`, cancels the rollout in progress; if there is none, goes back to the release in use before the current
    /// one. Returns the number of the new release, or None if only a rollout was cancelled.
    ///
    /// # Errors
    /// When there is no such release, it never was in use, or its component is in use or being rolled out.
    pub fn rollback(&mut self, to: Option<&str>, now_ms: u64) -> Result<Option<u64>, ReleaseError> {
        let release = match to {
            None if self.rollout.is_some() => {
                self.end_rollout(ReleaseState::Cancelled);
                return Ok(None);
            }
            None => self.before_current()?,
            Some(name) => self.named(name)?,
        };
        let (to, digest) = (release.number, release.digest.clone());
        if digest == self.in_use().digest {
            // To name the current release during a rollout means to cancel the rollout.
            return match self.rollout {
                Some(_) => {
                    self.end_rollout(ReleaseState::Cancelled);
                    Ok(None)
                }
                None => Err(ReleaseError::InUse(self.current)),
            };
        }
        if let Some(release) = self.rolling_out()
            && release.digest == digest
        {
            return Err(ReleaseError::RollingOut(release.number));
        }
        let component = ComponentFile {
            digest,
            file: release.file.clone(),
            bytes: release.bytes,
        };
        Ok(Some(self.roll_out(component, Origin::Rollback(to), None, now_ms)))
    }

    /// Whether a release needs a trial before it is promoted. A rollback does not, since its component was in use; nor does a
    /// saved file, which its developer tries.
    pub fn needs_trial(&self, number: u64) -> bool {
        let origin = self.release(number).map(|release| &release.origin);
        !matches!(origin, Some(Origin::Rollback(_) | Origin::Save))
    }

    /// Starts a rollout in place of any other, and returns the number of its release.
    fn roll_out(&mut self, component: ComponentFile, origin: Origin, canary: Option<Canary>, now_ms: u64) -> u64 {
        let number = self.next_number();
        self.end_rollout(ReleaseState::Superseded(number));
        self.releases
            .push(component.release(number, now_ms, origin, ReleaseState::RollingOut));
        self.rollout = Some(Rollout {
            release: number,
            phase: Phase::Preparing,
            canary,
        });
        self.forget_oldest();
        number
    }

    /// Records who deployed a release, and their message.
    pub fn set_author(&mut self, number: u64, author: Author, message: Option<&str>) {
        let release = self.releases.iter_mut().find(|release| release.number == number);
        if let Some(release) = release {
            release.author = Some(author);
            release.message = message.map(str::to_owned);
        }
    }

    /// Makes the release that is being rolled out the current one. `is_tried` is whether it has handled events.
    pub(crate) fn promote(&mut self, is_tried: bool) {
        let Some(rollout) = self.rollout.take() else { return };
        let is_tried = is_tried || !self.needs_trial(rollout.release);
        let before = self.current;
        self.set_state(before, ReleaseState::Retired);
        self.set_state(rollout.release, ReleaseState::Current);
        self.current = rollout.release;
        if is_tried {
            self.set_tried();
        }
    }

    /// Records that the current release has handled an event successfully.
    pub(crate) fn set_tried(&mut self) {
        if let Some(release) = self.in_use_mut() {
            release.is_tried = true;
            release.first_failure = None;
        }
    }

    /// Records that the first event of the current release failed.
    pub(crate) fn set_first_failure(&mut self, reason: String) {
        if let Some(release) = self.in_use_mut() {
            release.first_failure = Some(reason);
        }
    }

    fn in_use_mut(&mut self) -> Option<&mut Release> {
        let current = self.current;
        self.releases.iter_mut().find(|release| release.number == current)
    }

    /// Ends the rollout in progress, if any, and leaves its release in `state`.
    pub(crate) fn end_rollout(&mut self, state: ReleaseState) {
        if let Some(rollout) = self.rollout.take() {
            self.set_state(rollout.release, state);
        }
    }

    /// Takes the current release out of use, and makes the one before it current. Returns false if there is none.
    pub(crate) fn revert(&mut self, reason: String) -> bool {
        let Ok(before) = self.before_current().map(|release| release.number) else {
            return false;
        };
        let failed = self.current;
        self.set_state(
            failed,
            ReleaseState::Failed(format!("taken back after it was in use: {reason}")),
        );
        self.set_state(before, ReleaseState::Current);
        self.current = before;
        true
    }

    /// Whether there is a release to go back to if the current one fails.
    pub fn can_revert(&self) -> bool {
        self.before_current().is_ok()
    }

    /// The release in use before the current one. After a rollback, this is the release before the one rolled back to.
    fn before_current(&self) -> Result<&Release, ReleaseError> {
        let (mut base, mut origin) = (self.current, &self.in_use().origin);
        while let Origin::Rollback(to) = origin {
            base = *to;
            let Some(release) = self.release(base) else { break };
            origin = &release.origin;
        }
        let digest = &self.in_use().digest;
        let before = self.releases.iter().rev().find(|release| {
            release.number < base && release.state == ReleaseState::Retired && release.digest != *digest
        });
        before.ok_or(ReleaseError::NothingBefore(self.current))
    }

    /// The release with this number or digest that was in use. Of several with one digest, the newest.
    fn named(&self, name: &str) -> Result<&Release, ReleaseError> {
        let unknown = || ReleaseError::Unknown(name.to_owned());
        let is_named = |release: &&Release| {
            name.parse() == Ok(release.number) || (name.len() >= 6 && release.digest.as_str().starts_with(name))
        };
        let mut newest_first = self.releases.iter().rev().filter(is_named);
        let first = newest_first.next().ok_or_else(unknown)?;
        let was_in_use = |release: &&Release| matches!(release.state, ReleaseState::Current | ReleaseState::Retired);
        let used = Some(first).into_iter().chain(newest_first).find(was_in_use);
        used.ok_or_else(|| ReleaseError::NeverInUse {
            number: first.number,
            state: first.state.to_string(),
        })
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.newest().saturating_add(1)
    }

    /// Whether the newest release of `known` is among these.
    pub(crate) fn descends_from(&self, known: &Self) -> bool {
        known.releases.last().is_none_or(|newest| {
            let present = self.release(newest.number);
            present.is_some_and(|release| release.digest == newest.digest && release.at_ms == newest.at_ms)
        })
    }

    /// Number of the newest release.
    pub(crate) fn newest(&self) -> u64 {
        self.releases.last().map_or(0, |release| release.number)
    }

    pub(crate) fn set_state(&mut self, number: u64, state: ReleaseState) {
        let release = self.releases.iter_mut().find(|release| release.number == number);
        if let Some(release) = release {
            release.state = state;
        }
    }

    /// Forgets the oldest releases beyond `kept`, but never the current one, the one before it, or one being rolled out.
    pub(crate) fn forget_oldest(&mut self) {
        while self.releases.len() > self.kept.max(2) {
            let before = self.before_current().map(|release| release.number).ok();
            let is_free = |release: &Release| {
                release.number != self.current
                    && Some(release.number) != before
                    && release.state != ReleaseState::RollingOut
            };
            let Some(oldest) = self.releases.iter().position(is_free) else {
                return;
            };
            self.releases.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn component(name: &str) -> ComponentFile {
        ComponentFile {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        }
    }

    /// Releases of `a` and then of each of `names`, all promoted.
    fn promoted(names: &[&str]) -> AppReleases {
        let mut app = AppReleases::configured(component("a"), 0, 10);
        for name in names {
            app.deploy(component(name), None, 0).unwrap();
            app.promote(true);
        }
        app
    }

    fn states(app: &AppReleases) -> Vec<(u64, ReleaseState)> {
        let states = app
            .releases
            .iter()
            .map(|release| (release.number, release.state.clone()));
        states.collect()
    }

    #[test]
    fn deploy_supersedes_rollout_in_progress() {
        let mut app = promoted(&[]);
        assert_eq!(app.deploy(component("b"), None, 0), Ok(2));
        assert_eq!(app.deploy(component("b"), None, 0), Err(ReleaseError::RollingOut(2)));
        assert_eq!(app.deploy(component("c"), None, 0), Ok(3));
        app.promote(true);
        assert_eq!(
            states(&app),
            [
                (1, ReleaseState::Retired),
                (2, ReleaseState::Superseded(3)),
                (3, ReleaseState::Current)
            ]
        );
        assert_eq!(app.deploy(component("c"), None, 0), Err(ReleaseError::InUse(3)));
    }

    #[test]
    fn current_component_can_be_deployed_during_rollout() {
        let mut app = promoted(&[]);
        app.deploy(component("b"), None, 0).unwrap();
        assert_eq!(app.deploy(component("a"), None, 0), Ok(3));
        app.promote(true);
        assert_eq!(app.in_use().file, "a");
    }

    #[test]
    fn repeated_rollback_goes_further_back() {
        let mut app = promoted(&["b", "c"]);
        assert_eq!(app.rollback(None, 0), Ok(Some(4)));
        app.promote(true);
        assert_eq!(app.in_use().file, "b");
        assert_eq!(app.rollback(None, 0), Ok(Some(5)));
        app.promote(true);
        assert_eq!(app.in_use().file, "a");
        assert_eq!(app.rollback(None, 0), Err(ReleaseError::NothingBefore(5)));
        assert_eq!(app.rollback(Some("3"), 0), Ok(Some(6)));
        app.promote(true);
        assert_eq!(app.in_use().file, "c");
        let digest = Digest::of(b"a");
        assert_eq!(app.rollback(Some(digest.short()), 0), Ok(Some(7)));
    }

    #[test]
    fn rollback_cancels_rollout_in_progress() {
        let mut app = promoted(&["b"]);
        app.deploy(component("c"), None, 0).unwrap();
        assert_eq!(app.rollback(None, 0), Ok(None));
        assert_eq!(app.release(3).unwrap().state, ReleaseState::Cancelled);
        assert_eq!((app.current, &app.rollout), (2, &None));
        assert!(matches!(
            app.rollback(Some("3"), 0),
            Err(ReleaseError::NeverInUse { number: 3, .. })
        ));
        assert_eq!(app.rollback(Some("99"), 0), Err(ReleaseError::Unknown("99".into())));
    }

    #[test]
    fn revert_makes_previous_release_current() {
        let mut app = promoted(&["b"]);
        assert!(app.revert("it broke".into()));
        assert_eq!(
            states(&app),
            [
                (1, ReleaseState::Current),
                (
                    2,
                    ReleaseState::Failed("taken back after it was in use: it broke".into())
                )
            ]
        );
        assert!(!app.revert("it broke".into()), "there is none before the first");
    }

    #[test]
    fn oldest_are_forgotten_but_not_the_rollback_target() {
        let mut app = promoted(&["b"]);
        app.kept = 3;
        for name in ["c", "d", "e", "f"] {
            app.deploy(component(name), None, 0).unwrap();
            app.end_rollout(ReleaseState::Failed("no".into()));
        }
        let numbers: Vec<_> = app.releases.iter().map(|release| release.number).collect();
        assert_eq!(numbers, [1, 2, 6]);
        assert_eq!(app.rollback(None, 0), Ok(Some(7)));
    }
}
