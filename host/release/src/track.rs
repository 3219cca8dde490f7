//! The releases of one app, and the ways to add one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Canary, Digest, Phase, Rollout};

/// The releases of one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// The number of the release in use.
    pub current: u64,
    /// Oldest first. The one in use and the one being rolled out are among them.
    pub releases: Vec<Release>,
    /// The release that is being taken into use, if one is.
    pub rollout: Option<Rollout>,
    /// How many releases are remembered.
    pub kept: usize,
}

/// A component that was to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// 1 for the app's first, and one more for each.
    pub number: u64,
    /// The component.
    pub digest: Digest,
    /// The file it came from, for people.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What asked for it.
    pub origin: Origin,
    /// What became of it.
    pub state: State,
    /// Whether it has answered events. One that is in use and has not is taken back when it fails its first.
    #[serde(default)]
    pub is_tried: bool,
    /// Why an event failed, if it is in use and has answered none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Who asked for it, unless a version did that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Who asked for a release, as their machine knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The user's name.
    pub user: String,
    /// The machine's.
    pub host: String,
}

/// What asked for a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The file in a node's configuration, when the app had no release.
    Config,
    /// A deploy. Of an app that had no release it is the first.
    Deploy,
    /// A rollback to the component of this release.
    Rollback(u64),
    /// A file that somebody works on was saved: `plugnode dev`.
    Save,
}

/// What became of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being taken into use.
    RollingOut,
    /// It is in use.
    Current,
    /// It was in use.
    Retired,
    /// It was not taken into use, or was taken out of use by itself, for this reason.
    Failed(String),
    /// It was not taken into use, since this release was asked for meanwhile.
    Superseded(u64),
    /// Its rollout was ended by a rollback.
    Cancelled,
}

/// A component that is asked for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The component.
    pub digest: Digest,
    /// The file it came from, for people.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why a release cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// That component is in use, and nothing else is being rolled out.
    #[error("release {0} is in use already, and has the same component")]
    InUse(u64),
    /// That component is being rolled out.
    #[error("release {0}, which has the same component, is being rolled out already")]
    RollingOut(u64),
    /// There is none to go back to.
    #[error(
        "before {0} there is no release that was in use and not rolled back from; plugnode releases lists all, and plugnode rollback APP NUMBER goes to any of them"
    )]
    NothingBefore(u64),
    /// No such release.
    #[error("there is no release {0}; plugnode releases lists all")]
    Unknown(String),
    /// A release that never was in use.
    #[error("release {number} never was in use: it {what}; deploy its component to try it again")]
    NeverInUse {
        /// The release.
        number: u64,
        /// What became of it.
        what: String,
    },
}

impl Track {
    /// An app's first release, of the component in a node's configuration. It is in use from the start.
    pub fn first(target: Target, now_ms: u64, kept: usize) -> Self {
        Self::begin(target, Origin::Config, now_ms, kept)
    }

    /// An app's first release, deployed while no node runs the app: the first node that does starts it.
    pub fn first_deployed(target: Target, now_ms: u64) -> Self {
        Self::begin(target, Origin::Deploy, now_ms, super::KEPT)
    }

    fn begin(target: Target, origin: Origin, now_ms: u64, kept: usize) -> Self {
        Self {
            current: 1,
            releases: vec![target.release(1, now_ms, origin, State::Current)],
            rollout: None,
            kept,
        }
    }

    /// Whether what was read can be worked with.
    pub(super) fn is_sound(&self) -> bool {
        let is_known = |number: u64| self.release(number).is_some();
        is_known(self.current) && self.rollout.as_ref().is_none_or(|rollout| is_known(rollout.release))
    }

    /// The release of this number, if it is remembered.
    pub fn release(&self, number: u64) -> Option<&Release> {
        self.releases.iter().find(|release| release.number == number)
    }

    /// The release in use.
    pub fn in_use(&self) -> &Release {
        self.release(self.current).expect("the release in use is remembered")
    }

    /// The release being rolled out, if one is.
    pub fn rolling_out(&self) -> Option<&Release> {
        self.release(self.rollout.as_ref()?.release)
    }

    /// Asks for a component: it is rolled out from now on, and whatever was being rolled out is not any more. Returns the
    /// number of its release.
    pub fn deploy(&mut self, target: Target, canary: Option<Canary>, now_ms: u64) -> Result<u64, Refused> {
        self.ask_for(target, Origin::Deploy, canary, now_ms)
    }

    /// As `deploy`, of a component that somebody works on: it is in use as soon as it has started, without a trial, so that the next
    /// event is handled by what was just saved.
    pub fn save(&mut self, target: Target, now_ms: u64) -> Result<u64, Refused> {
        self.ask_for(target, Origin::Save, None, now_ms)
    }

    fn ask_for(&mut self, target: Target, origin: Origin, canary: Option<Canary>, now_ms: u64) -> Result<u64, Refused> {
        if let Some(release) = self.rolling_out() {
            if release.digest == target.digest {
                return Err(Refused::RollingOut(release.number));
            }
        } else if self.in_use().digest == target.digest {
            return Err(Refused::InUse(self.current));
        }
        Ok(self.roll_out(target, origin, canary, now_ms))
    }

    /// Asks for the component of an app that no node runs: it takes the place of a first release that was deployed, and that
    /// nobody has started. Else as `deploy`.
    pub fn deploy_to_nobody(&mut self, target: Target, canary: Option<Canary>, now_ms: u64) -> Result<u64, Refused> {
        let first = self.in_use();
        if self.rollout.is_some() || first.origin != Origin::Deploy || !self.is_first(first) || first.is_tried {
            return self.deploy(target, canary, now_ms);
        }
        if first.digest == target.digest && first.trouble.is_none() {
            return Err(Refused::RollingOut(first.number));
        }
        Ok(self.start_again(target, Origin::Deploy, now_ms))
    }

    /// Asks for a release that was in use, by its number or the beginning of its digest; without one, for the release in use
    /// before the present one. A rollout in progress ends; ending it is all that is done when no release is named. Returns the
    /// number of the new release, or none when only the rollout was ended.
    pub fn rollback(&mut self, to: Option<&str>, now_ms: u64) -> Result<Option<u64>, Refused> {
        let target = match to {
            None if self.rollout.is_some() => {
                self.end_rollout(State::Cancelled);
                return Ok(None);
            }
            None => self.before_current()?,
            Some(name) => self.named(name)?,
        };
        let (to, digest) = (target.number, target.digest.clone());
        if digest == self.in_use().digest {
            // Whoever names the release in use while another is rolled out wants that to end.
            return match self.rollout {
                Some(_) => {
                    self.end_rollout(State::Cancelled);
                    Ok(None)
                }
                None => Err(Refused::InUse(self.current)),
            };
        }
        if let Some(release) = self.rolling_out()
            && release.digest == digest
        {
            return Err(Refused::RollingOut(release.number));
        }
        let target = Target {
            digest,
            file: target.file.clone(),
            bytes: target.bytes,
        };
        Ok(Some(self.roll_out(target, Origin::Rollback(to), None, now_ms)))
    }

    /// Whether a release has to be tried before it is used. What goes back to where it was has been; what was saved is tried by who saved it.
    pub fn needs_trial(&self, number: u64) -> bool {
        let origin = self.release(number).map(|release| &release.origin);
        !matches!(origin, Some(Origin::Rollback(_) | Origin::Save))
    }

    /// Begins a rollout in the place of any other, and returns the number of its release.
    fn roll_out(&mut self, target: Target, origin: Origin, canary: Option<Canary>, now_ms: u64) -> u64 {
        let number = self.next_number();
        self.end_rollout(State::Superseded(number));
        self.releases
            .push(target.release(number, now_ms, origin, State::RollingOut));
        self.rollout = Some(Rollout {
            release: number,
            phase: Phase::Preparing,
            canary,
        });
        self.forget_oldest();
        number
    }

    /// Notes who has asked for a release, and why.
    pub fn sign(&mut self, number: u64, author: Author, message: Option<&str>) {
        let release = self.releases.iter_mut().find(|release| release.number == number);
        if let Some(release) = release {
            release.author = Some(author);
            release.message = message.map(str::to_owned);
        }
    }

    /// Takes the release being rolled out into use. It may have had no events to be tried with.
    pub(super) fn promote(&mut self, is_tried: bool) {
        let Some(rollout) = self.rollout.take() else { return };
        let is_tried = is_tried || !self.needs_trial(rollout.release);
        let before = self.current;
        self.set_state(before, State::Retired);
        self.set_state(rollout.release, State::Current);
        self.current = rollout.release;
        if is_tried {
            self.note_tried();
        }
    }

    /// The release in use has answered events.
    pub(super) fn note_tried(&mut self) {
        if let Some(release) = self.in_use_mut() {
            release.is_tried = true;
            release.trouble = None;
        }
    }

    /// The release in use has failed an event and answered none.
    pub(super) fn note_trouble(&mut self, reason: String) {
        if let Some(release) = self.in_use_mut() {
            release.trouble = Some(reason);
        }
    }

    /// Whether another component that its configuration names may take the place of the app's first release: all that this has
    /// done is to fail.
    pub fn is_false_start(&self) -> bool {
        let release = self.in_use();
        let has_only_failed = !release.is_tried && release.trouble.is_some();
        has_only_failed && self.is_first(release) && self.rollout.is_none()
    }

    /// Whether no release was in use before this one.
    fn is_first(&self, release: &Release) -> bool {
        let is_origin = matches!(release.origin, Origin::Config | Origin::Deploy);
        is_origin && self.releases.iter().all(|other| other.state != State::Retired)
    }

    /// Records that the first release cannot be started, unless another one is in use by now or it has answered events.
    pub fn note_false_start(&mut self, number: u64, reason: String) -> bool {
        let release = self.in_use();
        let is_meant = release.number == number && !release.is_tried && self.is_first(release);
        if is_meant {
            self.note_trouble(reason);
        }
        is_meant
    }

    /// Puts a component in the place of a first release that was never tried, and returns the number of its release.
    pub fn start_again(&mut self, target: Target, origin: Origin, now_ms: u64) -> u64 {
        let (before, number) = (self.current, self.next_number());
        let state = match self.in_use().trouble.clone() {
            Some(reason) => State::Failed(reason),
            None => State::Superseded(number),
        };
        self.set_state(before, state);
        self.releases
            .push(target.release(number, now_ms, origin, State::Current));
        self.current = number;
        self.forget_oldest();
        number
    }

    fn in_use_mut(&mut self) -> Option<&mut Release> {
        let current = self.current;
        self.releases.iter_mut().find(|release| release.number == current)
    }

    /// Ends the rollout in progress, if there is one.
    pub(super) fn end_rollout(&mut self, state: State) {
        if let Some(rollout) = self.rollout.take() {
            self.set_state(rollout.release, state);
        }
    }

    /// Takes the release in use out of use and the one before it back, when there is one.
    pub(super) fn revert(&mut self, reason: String) -> bool {
        let Ok(before) = self.before_current().map(|release| release.number) else {
            return false;
        };
        let failed = self.current;
        self.set_state(
            failed,
            State::Failed(format!("taken back after it was in use: {reason}")),
        );
        self.set_state(before, State::Current);
        self.current = before;
        true
    }

    /// Whether there is a release to go back to, should the one in use fail.
    pub fn can_go_back(&self) -> bool {
        self.before_current().is_ok()
    }

    /// The release in use before the present one. Going back again leads further back.
    fn before_current(&self) -> Result<&Release, Refused> {
        let (mut base, mut origin) = (self.current, &self.in_use().origin);
        while let Origin::Rollback(to) = origin {
            base = *to;
            let Some(release) = self.release(base) else { break };
            origin = &release.origin;
        }
        let digest = &self.in_use().digest;
        let before = self
            .releases
            .iter()
            .rev()
            .find(|release| release.number < base && release.state == State::Retired && release.digest != *digest);
        before.ok_or(Refused::NothingBefore(self.current))
    }

    fn named(&self, name: &str) -> Result<&Release, Refused> {
        let unknown = || Refused::Unknown(name.to_owned());
        let is_named = |release: &&Release| {
            name.parse() == Ok(release.number) || (name.len() >= 6 && release.digest.as_str().starts_with(name))
        };
        let mut newest_first = self.releases.iter().rev().filter(is_named);
        let first = newest_first.next().ok_or_else(unknown)?;
        let was_in_use = |release: &&Release| matches!(release.state, State::Current | State::Retired);
        let used = Some(first).into_iter().chain(newest_first).find(was_in_use);
        used.ok_or_else(|| Refused::NeverInUse {
            number: first.number,
            what: first.state.to_string(),
        })
    }

    fn next_number(&self) -> u64 {
        self.newest() + 1
    }

    /// Whether it has the newest release of the other, as it was asked for.
    pub(super) fn goes_on_from(&self, known: &Self) -> bool {
        known.releases.last().is_none_or(|newest| {
            let present = self.release(newest.number);
            present.is_some_and(|release| release.digest == newest.digest && release.at_ms == newest.at_ms)
        })
    }

    /// The number of the newest release.
    pub(super) fn newest(&self) -> u64 {
        self.releases.last().map_or(0, |release| release.number)
    }

    fn set_state(&mut self, number: u64, state: State) {
        let release = self.releases.iter_mut().find(|release| release.number == number);
        if let Some(release) = release {
            release.state = state;
        }
    }

    /// Keeps the latest. The one in use and the one before it are kept in any case.
    fn forget_oldest(&mut self) {
        while self.releases.len() > self.kept.max(2) {
            let before = self.before_current().map(|release| release.number).ok();
            let is_free = |release: &Release| {
                release.number != self.current && Some(release.number) != before && release.state != State::RollingOut
            };
            let Some(place) = self.releases.iter().position(is_free) else {
                return;
            };
            self.releases.remove(place);
        }
    }
}

impl Target {
    fn release(self, number: u64, at_ms: u64, origin: Origin, state: State) -> Release {
        Release {
            number,
            digest: self.digest,
            file: self.file,
            bytes: self.bytes,
            at_ms,
            origin,
            state,
            is_tried: false,
            trouble: None,
            author: None,
            message: None,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RollingOut => f.write_str("is being rolled out"),
            Self::Current => f.write_str("is in use"),
            Self::Retired => f.write_str("was in use"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Superseded(by) => write!(f, "was superseded by release {by}"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        }
    }

    /// A track on which each of these was deployed and promoted, after `a`.
    fn track(names: &[&str]) -> Track {
        let mut track = Track::first(target("a"), 0, 10);
        for name in names {
            track.deploy(target(name), None, 0).unwrap();
            track.promote(true);
        }
        track
    }

    fn states(track: &Track) -> Vec<(u64, State)> {
        let states = track
            .releases
            .iter()
            .map(|release| (release.number, release.state.clone()));
        states.collect()
    }

    #[test]
    fn a_deploy_during_a_rollout_supersedes_it() {
        let mut track = track(&[]);
        assert_eq!(track.deploy(target("b"), None, 0), Ok(2));
        assert_eq!(track.deploy(target("b"), None, 0), Err(Refused::RollingOut(2)));
        assert_eq!(track.deploy(target("c"), None, 0), Ok(3));
        track.promote(true);
        assert_eq!(
            states(&track),
            [(1, State::Retired), (2, State::Superseded(3)), (3, State::Current)]
        );
        assert_eq!(track.deploy(target("c"), None, 0), Err(Refused::InUse(3)));
    }

    #[test]
    fn the_release_in_use_can_be_deployed_over_a_rollout() {
        let mut track = track(&[]);
        track.deploy(target("b"), None, 0).unwrap();
        assert_eq!(track.deploy(target("a"), None, 0), Ok(3));
        track.promote(true);
        assert_eq!(track.in_use().file, "a");
    }

    #[test]
    fn a_rollback_goes_back_and_the_next_further_back() {
        let mut track = track(&["b", "c"]);
        assert_eq!(track.rollback(None, 0), Ok(Some(4)));
        track.promote(true);
        assert_eq!(track.in_use().file, "b");
        assert_eq!(track.rollback(None, 0), Ok(Some(5)));
        track.promote(true);
        assert_eq!(track.in_use().file, "a");
        assert_eq!(track.rollback(None, 0), Err(Refused::NothingBefore(5)));
        assert_eq!(track.rollback(Some("3"), 0), Ok(Some(6)));
        track.promote(true);
        assert_eq!(track.in_use().file, "c");
        let digest = Digest::of(b"a");
        assert_eq!(track.rollback(Some(digest.short()), 0), Ok(Some(7)));
    }

    #[test]
    fn a_rollback_during_a_rollout_ends_it() {
        let mut track = track(&["b"]);
        track.deploy(target("c"), None, 0).unwrap();
        assert_eq!(track.rollback(None, 0), Ok(None));
        assert_eq!(track.release(3).unwrap().state, State::Cancelled);
        assert_eq!((track.current, &track.rollout), (2, &None));
        assert!(matches!(
            track.rollback(Some("3"), 0),
            Err(Refused::NeverInUse { number: 3, .. })
        ));
        assert_eq!(track.rollback(Some("99"), 0), Err(Refused::Unknown("99".into())));
    }

    #[test]
    fn false_start_gives_way_to_configured_component() {
        let mut track = track(&[]);
        assert!(!track.is_false_start(), "it may do well");
        track.note_trouble("it broke".into());
        assert!(track.is_false_start());
        assert_eq!(track.start_again(target("b"), Origin::Config, 0), 2);
        assert_eq!(
            states(&track),
            [(1, State::Failed("it broke".into())), (2, State::Current)]
        );
        track.note_trouble("an event was wrong".into());
        track.note_tried();
        assert!(!track.is_false_start());
        assert_eq!(track.in_use().trouble, None);
    }

    #[test]
    fn deployed_first_release_gives_way_until_it_is_tried() {
        let mut track = Track::first_deployed(target("a"), 0);
        let again = |track: &mut Track, name: &str| track.deploy_to_nobody(target(name), None, 0);
        assert_eq!(
            again(&mut track, "a"),
            Err(Refused::RollingOut(1)),
            "it waits for a node"
        );
        assert_eq!(again(&mut track, "b"), Ok(2));
        assert!(!track.note_false_start(1, "late".into()), "another is in use");
        assert!(track.note_false_start(2, "it traps".into()) && track.is_false_start());
        assert_eq!(again(&mut track, "b"), Ok(3), "it is worth another try");
        assert_eq!(
            states(&track),
            [
                (1, State::Superseded(2)),
                (2, State::Failed("it traps".into())),
                (3, State::Current)
            ]
        );
        track.note_tried();
        assert_eq!(again(&mut track, "c"), Ok(4));
        assert_eq!(track.current, 3, "it is rolled out");
    }

    #[test]
    fn what_fails_after_its_promotion_gives_way_to_the_one_before() {
        let mut track = track(&["b"]);
        assert!(track.revert("it broke".into()));
        assert_eq!(
            states(&track),
            [
                (1, State::Current),
                (2, State::Failed("taken back after it was in use: it broke".into()))
            ]
        );
        assert!(!track.revert("it broke".into()), "there is none before the first");
    }

    #[test]
    fn the_oldest_are_forgotten_and_never_the_one_to_go_back_to() {
        let mut track = track(&["b"]);
        track.kept = 3;
        for name in ["c", "d", "e", "f"] {
            track.deploy(target(name), None, 0).unwrap();
            track.end_rollout(State::Failed("no".into()));
        }
        let numbers: Vec<_> = track.releases.iter().map(|release| release.number).collect();
        assert_eq!(numbers, [1, 2, 6]);
        assert_eq!(track.rollback(None, 0), Ok(Some(7)));
    }
}
