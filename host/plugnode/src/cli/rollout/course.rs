//! The course of one release, as the board and the nodes show it at each look: what is new in it, and how it ends.
//!
//! It waits for nothing: how much time has passed is told to it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::super::words::{first_line, seconds};
use plugnode_message::{Namespace, NodeId};
use plugnode_release::{AppReport, Board, Canary, Counts, NodeReport, Phase, Release, Stage, State, Track};

/// For how long nodes that cannot take the release yet are waited for, once it is in use
const BEHIND: Duration = Duration::from_secs(10);
/// and for how long those that merely had no events for it: their next event goes to it in any case.
const QUIET: Duration = Duration::from_secs(1);

/// What has become of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Outcome {
    /// It is in use.
    InUse,
    /// It is in use, and there were no events to try it with.
    NotTried,
    /// It was taken into use, and this one has taken its place since.
    Replaced(u64),
    /// It is not in use, for this reason.
    Failed(String),
    /// This one was asked for before it was in use.
    Superseded(u64),
    /// A rollback ended it.
    Cancelled,
}

/// How a release got on.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Followed {
    pub(in crate::cli) release: Release,
    pub(in crate::cli) outcome: Outcome,
    /// The number of the release in use at the end.
    pub(in crate::cli) in_use: u64,
    /// Whether the followed one was seen to be in use on the way.
    pub(in crate::cli) was_in_use: bool,
    /// Whether there is a release to go back to, should the one in use fail.
    pub(in crate::cli) can_go_back: bool,
    pub(in crate::cli) took: Duration,
    /// The nodes that are there at the end.
    pub(in crate::cli) nodes: BTreeMap<NodeId, Member>,
    /// If it had a share of the partitions: how that was asked for, and how the release in use and the new one did.
    pub(in crate::cli) canary: Option<(Canary, Counts, Counts)>,
}

/// How a release got on at one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct Member {
    /// When it was seen to be in use there.
    pub(in crate::cli) in_use_after: Option<Duration>,
    /// Whether it uses it and cannot say yet how that goes.
    pub(in crate::cli) is_on_trial: bool,
    /// What was told last of its way there.
    pub(in crate::cli) stage: Option<Stage>,
    /// Instances that began without the state of those before them, and why.
    pub(in crate::cli) states_refused: Vec<String>,
}

/// What was seen so far.
pub(super) struct Course {
    app: Namespace,
    number: u64,
    phase: Option<Phase>,
    nodes: BTreeMap<NodeId, Member>,
    /// When it was first seen to be in use.
    current_after: Option<Duration>,
    canary: Option<(Canary, Counts, Counts)>,
}

impl Course {
    pub(super) fn new(app: Namespace, number: u64) -> Self {
        Self {
            app,
            number,
            phase: None,
            nodes: BTreeMap::new(),
            current_after: None,
            canary: None,
        }
    }

    /// Looks once, tells what is new, and says how it ended if it has.
    pub(super) fn look(
        &mut self,
        board: &Board,
        nodes: &[(NodeId, Option<NodeReport>)],
        now: Duration,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Option<Followed>> {
        let track = board.apps.get(&self.app);
        let found = track.and_then(|track| Some((track, track.release(self.number)?)));
        let (track, release) = found.ok_or_else(|| {
            anyhow!(
                "release {} is not remembered any more: others have come since; plugnode releases lists them",
                self.number
            )
        })?;
        self.see_nodes(nodes, now, tell);
        self.see_phase(track, now, tell);
        self.compare(track, nodes);
        let outcome = match &release.state {
            State::RollingOut => return Ok(None),
            // A first release that no node has started.
            State::Current if self.nodes.is_empty() && !release.is_tried && release.trouble.is_none() => {
                return Ok(None);
            }
            // One that none could, or that fails: nothing is there to take its place.
            State::Current if !release.is_tried && release.trouble.is_some() && !track.can_go_back() => {
                Outcome::Failed(release.trouble.clone().unwrap_or_default())
            }
            State::Current if !self.has_arrived(now) => return Ok(None),
            State::Current if !release.is_tried => Outcome::NotTried,
            State::Current => Outcome::InUse,
            State::Retired => Outcome::Replaced(track.current),
            State::Failed(reason) => Outcome::Failed(reason.clone()),
            State::Superseded(by) => Outcome::Superseded(*by),
            State::Cancelled => Outcome::Cancelled,
        };
        Ok(Some(Followed {
            release: release.clone(),
            outcome,
            in_use: track.current,
            was_in_use: self.current_after.is_some(),
            can_go_back: track.can_go_back(),
            took: now,
            nodes: self.nodes.clone(),
            canary: self.canary.clone(),
        }))
    }

    fn see_phase(&mut self, track: &Track, now: Duration, tell: &mut dyn FnMut(&str)) {
        let rollout = track.rollout.as_ref().filter(|rollout| rollout.release == self.number);
        let phase = rollout.map(|rollout| rollout.phase);
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        let Some(rollout) = rollout else { return };
        let words = match (rollout.phase, &rollout.canary) {
            // Each node tells what it does.
            (Phase::Preparing, _) => return,
            (Phase::Canary, Some(canary)) => {
                let time = Duration::from_millis(canary.for_ms);
                format!("{} % of the partitions go to it for {time:?}", canary.percent)
            }
            (Phase::Trying | Phase::Canary, _) => {
                "every node is ready; first events go to it, one at a time".to_owned()
            }
        };
        tell(&format!("{words} ({})", seconds(now)));
    }

    fn see_nodes(&mut self, nodes: &[(NodeId, Option<NodeReport>)], now: Duration, tell: &mut dyn FnMut(&str)) {
        let mut seen = BTreeMap::new();
        for (node, report) in nodes {
            let app = report.as_ref().map(|report| report.apps.get(&self.app));
            // Others may not run the app, and then have no part in this.
            if app.is_some_and(|app| app.is_none()) {
                continue;
            }
            let mut member = self.nodes.remove(node).unwrap_or_default();
            if let Some(app) = app.flatten()
                && let Some(words) = member.see(app, self.number, now)
            {
                tell(&format!("{node} {words} ({})", seconds(now)));
            }
            seen.insert(node.clone(), member);
        }
        for gone in std::mem::replace(&mut self.nodes, seen).into_keys() {
            tell(&format!("{gone} is gone ({})", seconds(now)));
        }
    }

    /// Keeps the latest of how the two sides of a canary do. When it has just ended, the nodes may still tell of it.
    fn compare(&mut self, track: &Track, nodes: &[(NodeId, Option<NodeReport>)]) {
        let rollout = track.rollout.as_ref().filter(|rollout| rollout.release == self.number);
        let begun = rollout.filter(|rollout| rollout.phase == Phase::Canary);
        let begun = begun.and_then(|rollout| rollout.canary.clone());
        let known = self.canary.as_ref();
        let Some(canary) = begun.or_else(|| known.map(|(canary, ..)| canary.clone())) else {
            return;
        };
        let apps = nodes
            .iter()
            .filter_map(|(_, report)| report.as_ref()?.apps.get(&self.app));
        let sides = apps.filter_map(|app| {
            let progress = app
                .progress
                .as_ref()
                .filter(|progress| progress.release == self.number)?;
            Some((&app.counts, &progress.counts))
        });
        let (old, new): (Vec<_>, Vec<_>) = sides.unzip();
        let (old, new) = (Counts::sum(old), Counts::sum(new));
        // Those that tell of it no more are missing in the sum.
        if known.is_none_or(|(.., latest)| new.events >= latest.events) || rollout.is_some() {
            self.canary = Some((canary, old, new));
        }
    }

    /// Whether every node has taken up what is in use, or has been waited for long enough.
    fn has_arrived(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(*self.current_after.get_or_insert(now));
        self.nodes
            .values()
            .all(|member| match (member.in_use_after, &member.stage) {
                _ if member.is_on_trial => since >= BEHIND,
                (Some(_), _) => true,
                (None, Some(Stage::Ready | Stage::Proven)) => since >= QUIET,
                (None, _) => since >= BEHIND,
            })
    }
}

impl Member {
    /// Takes note of what a node tells, and returns what is new in it, in words.
    fn see(&mut self, app: &AppReport, number: u64, now: Duration) -> Option<String> {
        let progress = app.progress.as_ref().filter(|progress| progress.release == number);
        if app.release == number {
            // It has events, and has not seen the first of them answered: it may well be taken back. Or its instances still get
            // the state of those before them.
            let late = [
                &app.counts.per_second,
                &progress.map_or(0.0, |progress| progress.counts.per_second),
            ];
            let has_events = app.in_hand > 0 || late.into_iter().any(|late| *late > 0.0);
            self.is_on_trial = !app.have_begun || (progress.is_some() && has_events);
            self.states_refused.clone_from(&app.states_refused);
            self.stage = None;
            return match self.in_use_after.replace(self.in_use_after.unwrap_or(now)) {
                Some(_) => None,
                None => Some("uses it".to_owned()),
            };
        }
        // It was taken back there.
        self.in_use_after = None;
        let progress = progress?;
        if self.stage.as_ref() == Some(&progress.stage) {
            return None;
        }
        self.stage = Some(progress.stage.clone());
        Some(in_words(&progress.stage))
    }
}

/// How far a node is, as what follows its name.
pub(in crate::cli) fn in_words(stage: &Stage) -> String {
    match stage {
        Stage::Fetching => "fetches it".to_owned(),
        Stage::Compiling => "compiles it".to_owned(),
        Stage::Starting => "starts instances of it".to_owned(),
        Stage::Ready => "is ready for it".to_owned(),
        Stage::Proven => "has answered first events with it".to_owned(),
        Stage::Failed(reason) => format!("cannot use it: {}", first_line(reason)),
        Stage::Behind(reason) => format!("cannot use it yet: {}", first_line(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_release::{Digest, Progress, Target};

    const APP: &str = "/";

    fn board(change: impl FnOnce(&mut Track)) -> Board {
        let target = |name: &str| Target {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        };
        let mut track = Track::first(target("a"), 0, 10);
        track.deploy(target("b"), None, 0).unwrap();
        change(&mut track);
        let mut board = Board::default();
        board.apps.insert(APP.into(), track);
        board
    }

    fn in_use(track: &mut Track) {
        track.rollout = None;
        track.current = 2;
        track.releases[0].state = State::Retired;
        track.releases[1].state = State::Current;
        track.releases[1].is_tried = true;
    }

    fn node(name: &str, release: u64, stage: Option<Stage>) -> (NodeId, Option<NodeReport>) {
        let app = AppReport {
            release,
            digest: Digest::of(b"a"),
            instances: 4,
            in_hand: 0,
            counts: Counts::default(),
            progress: stage.map(|stage| Progress {
                release: 2,
                stage,
                counts: Counts::default(),
            }),
            have_begun: true,
            has_answered: false,
            trouble: None,
            states_refused: Vec::new(),
        };
        let report = NodeReport {
            node: name.into(),
            at_ms: 0,
            apps: [(APP.into(), app)].into(),
            native: Vec::new(),
        };
        (name.into(), Some(report))
    }

    struct Seen {
        course: Course,
        told: Vec<String>,
    }

    impl Seen {
        fn new() -> Self {
            Self {
                course: Course::new(APP.into(), 2),
                told: Vec::new(),
            }
        }

        fn look(&mut self, board: &Board, nodes: &[(NodeId, Option<NodeReport>)], seconds: u64) -> Option<Outcome> {
            let tell = &mut |line: &str| self.told.push(line.to_owned());
            let followed = self.course.look(board, nodes, Duration::from_secs(seconds), tell);
            followed.unwrap().map(|followed| followed.outcome)
        }
    }

    #[test]
    fn each_step_is_told_once() {
        let mut seen = Seen::new();
        let rolling_out = board(|_| {});
        let compiling = [node("app-1", 1, Some(Stage::Compiling)), ("app-2".into(), None)];
        assert_eq!(seen.look(&rolling_out, &compiling, 1), None);
        assert_eq!(seen.look(&rolling_out, &compiling, 2), None);
        let trying = board(|track| track.rollout.as_mut().unwrap().phase = Phase::Trying);
        let ready = [node("app-1", 1, Some(Stage::Ready))];
        assert_eq!(seen.look(&trying, &ready, 3), None);
        assert_eq!(
            seen.look(&board(in_use), &[node("app-1", 2, None)], 4),
            Some(Outcome::InUse)
        );
        assert_eq!(
            seen.told,
            [
                "app-1 compiles it (1.0 s)",
                "app-1 is ready for it (3.0 s)",
                "app-2 is gone (3.0 s)",
                "every node is ready; first events go to it, one at a time (3.0 s)",
                "app-1 uses it (4.0 s)",
            ]
        );
    }

    #[test]
    fn nodes_without_events_and_nodes_behind_are_not_waited_for_without_end() {
        let in_use = board(in_use);
        for (stage, least) in [(Stage::Ready, 1), (Stage::Behind("no room".into()), 10)] {
            let mut seen = Seen::new();
            let nodes = [node("app-1", 2, None), node("app-2", 1, Some(stage))];
            assert_eq!(seen.look(&in_use, &nodes, 5), None);
            assert_eq!(seen.look(&in_use, &nodes, 5 + least), Some(Outcome::InUse));
            assert_eq!(seen.course.nodes[&NodeId::from("app-2")].in_use_after, None);
        }
    }

    #[test]
    fn release_without_events_is_not_tried() {
        let untried = board(|track| {
            in_use(track);
            track.releases[1].is_tried = false;
        });
        assert_eq!(
            Seen::new().look(&untried, &[node("app-1", 2, None)], 4),
            Some(Outcome::NotTried)
        );
    }

    #[test]
    fn every_other_end_is_seen_at_once() {
        for (state, outcome) in [
            (State::Failed("no".into()), Outcome::Failed("no".into())),
            (State::Superseded(3), Outcome::Superseded(3)),
            (State::Cancelled, Outcome::Cancelled),
            (State::Retired, Outcome::Replaced(1)),
        ] {
            let board = board(|track| track.releases[1].state = state);
            assert_eq!(Seen::new().look(&board, &[node("app-1", 1, None)], 1), Some(outcome));
        }
        let forgotten = board(|track| drop(track.releases.pop()));
        let looked = Course::new(APP.into(), 2).look(&forgotten, &[], Duration::ZERO, &mut |_| {});
        assert!(looked.is_err());
    }

    #[test]
    fn a_node_without_the_app_has_no_part_in_it() {
        let mut other = node("app-2", 1, None);
        other.1.as_mut().unwrap().apps.clear();
        let mut seen = Seen::new();
        let nodes = [node("app-1", 2, None), other];
        assert_eq!(seen.look(&board(in_use), &nodes, 1), Some(Outcome::InUse));
        assert_eq!(seen.course.nodes.len(), 1);
    }
}
