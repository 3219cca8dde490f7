//! Progress of one release's rollout, from successive readings of the board and of the nodes' reports: what is new, and the
//! outcome.
//!
//! Does no I/O and reads no clock: the caller passes the elapsed time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::super::words::{first_line, seconds};
use plugnode_message::{Namespace, NodeId};
use plugnode_release::{
    AppReleases, AppReport, Board, Canary, Counts, NodeReport, Phase, Release, ReleaseState, Stage,
};

/// Longest wait for nodes that cannot run the release yet, once it is current.
const BEHIND: Duration = Duration::from_secs(10);
/// Longest wait for nodes that merely had no events for it: it will handle their next event in any case.
const QUIET: Duration = Duration::from_secs(1);

/// Outcome of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Outcome {
    /// It is in use.
    InUse,
    /// It is in use, but there were no events to try it with.
    NotTried,
    /// It was in use, and has been replaced by this release.
    Replaced(u64),
    /// It is not in use, for this reason.
    Failed(String),
    /// This release was deployed before it was in use.
    Superseded(u64),
    /// A rollback ended it.
    Cancelled,
}

/// A rollout that has ended.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Followed {
    pub(in crate::cli) release: Release,
    pub(in crate::cli) outcome: Outcome,
    /// The number of the release in use at the end.
    pub(in crate::cli) in_use: u64,
    /// Whether the release was ever seen in use.
    pub(in crate::cli) was_in_use: bool,
    /// Whether there is a release to go back to if the one in use fails.
    pub(in crate::cli) can_go_back: bool,
    pub(in crate::cli) took: Duration,
    /// The app-nodes that run the app at the end.
    pub(in crate::cli) nodes: BTreeMap<NodeId, NodeProgress>,
    /// Of a canary: its settings, and the counts of the previous and of the new release.
    pub(in crate::cli) canary: Option<(Canary, Counts, Counts)>,
}

/// Progress of the rollout on one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct NodeProgress {
    /// When the node was first seen to run it.
    pub(in crate::cli) in_use_after: Option<Duration>,
    /// Whether the node runs it but has not handled its first events yet.
    pub(in crate::cli) is_on_trial: bool,
    /// The last stage that was reported.
    pub(in crate::cli) stage: Option<Stage>,
    /// Instances that started without the state of their predecessor, with the reasons.
    pub(in crate::cli) states_refused: Vec<String>,
}

/// What was seen of a rollout so far.
pub(super) struct RolloutProgress {
    app: Namespace,
    number: u64,
    phase: Option<Phase>,
    nodes: BTreeMap<NodeId, NodeProgress>,
    /// When it was first seen to be current.
    current_after: Option<Duration>,
    canary: Option<(Canary, Counts, Counts)>,
}

impl RolloutProgress {
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

    /// Takes one reading: reports what is new to `tell`, and returns the outcome if the rollout has ended.
    pub(super) fn look(
        &mut self,
        board: &Board,
        nodes: &[(NodeId, Option<NodeReport>)],
        now: Duration,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Option<Followed>> {
        let app_releases = board.apps.get(&self.app);
        let found = app_releases.and_then(|app_releases| Some((app_releases, app_releases.release(self.number)?)));
        let (app_releases, release) = found.ok_or_else(|| {
            anyhow!(
                "release {} is forgotten: newer releases have replaced it; plugnode releases lists them",
                self.number
            )
        })?;
        self.see_nodes(nodes, now, tell);
        self.see_phase(app_releases, now, tell);
        self.compare(app_releases, nodes);
        let outcome = match &release.state {
            ReleaseState::RollingOut => return Ok(None),
            // A first release that no node has started yet.
            ReleaseState::Current if self.nodes.is_empty() && !release.is_tried && release.first_failure.is_none() => {
                return Ok(None);
            }
            // It fails, and there is no release to go back to.
            ReleaseState::Current
                if !release.is_tried && release.first_failure.is_some() && !app_releases.can_revert() =>
            {
                Outcome::Failed(release.first_failure.clone().unwrap_or_default())
            }
            ReleaseState::Current if !self.has_arrived(now) => return Ok(None),
            ReleaseState::Current if !release.is_tried => Outcome::NotTried,
            ReleaseState::Current => Outcome::InUse,
            ReleaseState::Retired => Outcome::Replaced(app_releases.current),
            ReleaseState::Failed(reason) => Outcome::Failed(reason.clone()),
            ReleaseState::Superseded(by) => Outcome::Superseded(*by),
            ReleaseState::Cancelled => Outcome::Cancelled,
        };
        Ok(Some(Followed {
            release: release.clone(),
            outcome,
            in_use: app_releases.current,
            was_in_use: self.current_after.is_some(),
            can_go_back: app_releases.can_revert(),
            took: now,
            nodes: self.nodes.clone(),
            canary: self.canary.clone(),
        }))
    }

    fn see_phase(&mut self, app_releases: &AppReleases, now: Duration, tell: &mut dyn FnMut(&str)) {
        let rollout = app_releases
            .rollout
            .as_ref()
            .filter(|rollout| rollout.release == self.number);
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
            // Nodes that do not run the app are ignored.
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

    /// Records the latest counts of both sides of a canary. Nodes may still report them just after it has ended.
    fn compare(&mut self, app_releases: &AppReleases, nodes: &[(NodeId, Option<NodeReport>)]) {
        let rollout = app_releases
            .rollout
            .as_ref()
            .filter(|rollout| rollout.release == self.number);
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
        // A smaller sum means that some nodes no longer report the canary.
        if known.is_none_or(|(.., latest)| new.events >= latest.events) || rollout.is_some() {
            self.canary = Some((canary, old, new));
        }
    }

    /// Whether every node runs the current release, or has been waited for long enough.
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

impl NodeProgress {
    /// Takes a node's report, and returns what is new in it, in words.
    fn see(&mut self, app: &AppReport, number: u64, now: Duration) -> Option<String> {
        let progress = app.progress.as_ref().filter(|progress| progress.release == number);
        if app.release == number {
            // It has not handled its first events yet and may be reverted, or its instances still take over state.
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
        // The node has reverted it.
        self.in_use_after = None;
        let progress = progress?;
        if self.stage.as_ref() == Some(&progress.stage) {
            return None;
        }
        self.stage = Some(progress.stage.clone());
        Some(in_words(&progress.stage))
    }
}

/// The stage of a node in words, to follow its name.
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
    use plugnode_release::{ComponentFile, Digest, Progress};

    const APP: &str = "/";

    fn board(change: impl FnOnce(&mut AppReleases)) -> Board {
        let target = |name: &str| ComponentFile {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        };
        let mut app_releases = AppReleases::configured(target("a"), 0, 10);
        app_releases.deploy(target("b"), None, 0).unwrap();
        change(&mut app_releases);
        let mut board = Board::default();
        board.apps.insert(APP.into(), app_releases);
        board
    }

    fn in_use(app_releases: &mut AppReleases) {
        app_releases.rollout = None;
        app_releases.current = 2;
        app_releases.releases[0].state = ReleaseState::Retired;
        app_releases.releases[1].state = ReleaseState::Current;
        app_releases.releases[1].is_tried = true;
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
            first_failure: None,
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
        progress: RolloutProgress,
        told: Vec<String>,
    }

    impl Seen {
        fn new() -> Self {
            Self {
                progress: RolloutProgress::new(APP.into(), 2),
                told: Vec::new(),
            }
        }

        fn look(&mut self, board: &Board, nodes: &[(NodeId, Option<NodeReport>)], seconds: u64) -> Option<Outcome> {
            let tell = &mut |line: &str| self.told.push(line.to_owned());
            let followed = self.progress.look(board, nodes, Duration::from_secs(seconds), tell);
            followed.unwrap().map(|followed| followed.outcome)
        }
    }

    #[test]
    fn each_step_is_reported_once() {
        let mut seen = Seen::new();
        let rolling_out = board(|_| {});
        let compiling = [node("app-1", 1, Some(Stage::Compiling)), ("app-2".into(), None)];
        assert_eq!(seen.look(&rolling_out, &compiling, 1), None);
        assert_eq!(seen.look(&rolling_out, &compiling, 2), None);
        let trying = board(|app_releases| app_releases.rollout.as_mut().unwrap().phase = Phase::Trying);
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
    fn wait_for_idle_and_late_nodes_is_bounded() {
        let in_use = board(in_use);
        for (stage, least) in [(Stage::Ready, 1), (Stage::Behind("no room".into()), 10)] {
            let mut seen = Seen::new();
            let nodes = [node("app-1", 2, None), node("app-2", 1, Some(stage))];
            assert_eq!(seen.look(&in_use, &nodes, 5), None);
            assert_eq!(seen.look(&in_use, &nodes, 5 + least), Some(Outcome::InUse));
            assert_eq!(seen.progress.nodes[&NodeId::from("app-2")].in_use_after, None);
        }
    }

    #[test]
    fn release_without_events_is_not_tried() {
        let untried = board(|app_releases| {
            in_use(app_releases);
            app_releases.releases[1].is_tried = false;
        });
        assert_eq!(
            Seen::new().look(&untried, &[node("app-1", 2, None)], 4),
            Some(Outcome::NotTried)
        );
    }

    #[test]
    fn other_outcomes_are_seen_at_once() {
        for (state, outcome) in [
            (ReleaseState::Failed("no".into()), Outcome::Failed("no".into())),
            (ReleaseState::Superseded(3), Outcome::Superseded(3)),
            (ReleaseState::Cancelled, Outcome::Cancelled),
            (ReleaseState::Retired, Outcome::Replaced(1)),
        ] {
            let board = board(|app_releases| app_releases.releases[1].state = state);
            assert_eq!(Seen::new().look(&board, &[node("app-1", 1, None)], 1), Some(outcome));
        }
        let forgotten = board(|app_releases| drop(app_releases.releases.pop()));
        let looked = RolloutProgress::new(APP.into(), 2).look(&forgotten, &[], Duration::ZERO, &mut |_| {});
        assert!(looked.is_err());
    }

    #[test]
    fn node_without_the_app_is_ignored() {
        let mut other = node("app-2", 1, None);
        other.1.as_mut().unwrap().apps.clear();
        let mut seen = Seen::new();
        let nodes = [node("app-1", 2, None), other];
        assert_eq!(seen.look(&board(in_use), &nodes, 1), Some(Outcome::InUse));
        assert_eq!(seen.progress.nodes.len(), 1);
    }
}
