//! Progress of one rollout, derived from successive snapshots of the board and the nodes' reports.
//!
//! No I/O and no clock: snapshots and the elapsed time are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::super::format::seconds;
use super::super::release_format::stage_in_words;
use plugnode_message::{Namespace, NodeId};
use plugnode_release::{
    AppReleases, AppReport, Board, Canary, Counts, NodeReport, NodeStage, Phase, Release, ReleaseState,
};

/// Once the release is in use: limit of waiting for nodes that cannot use it yet.
const BEHIND: Duration = Duration::from_secs(10);
/// Once the release is in use: limit of waiting for nodes that are ready and had no event. Their next event goes to the release anyway.
const QUIET: Duration = Duration::from_secs(1);

/// Outcome of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum RolloutOutcome {
    /// The release is in use.
    InUse,
    /// The release is in use, and there were no events to try it with.
    NotTried,
    /// The release was in use, and the release with this number has replaced it.
    Replaced(u64),
    /// The release is not in use, for this reason.
    Failed(String),
    /// The release with this number was requested before this one was in use.
    Superseded(u64),
    /// A rollback ended the rollout.
    Cancelled,
}

/// How a rollout ended.
#[derive(Debug, Clone)]
pub(in crate::cli) struct RolloutResult {
    pub(in crate::cli) release: Release,
    pub(in crate::cli) outcome: RolloutOutcome,
    /// Number of the release in use at the end.
    pub(in crate::cli) in_use: u64,
    /// Whether the followed release was in use at any time.
    pub(in crate::cli) was_in_use: bool,
    /// Whether there is an earlier release to return to if the one in use fails.
    pub(in crate::cli) can_go_back: bool,
    pub(in crate::cli) took: Duration,
    /// The app-nodes of the app at the end.
    pub(in crate::cli) nodes: BTreeMap<NodeId, NodeProgress>,
    /// If it was a canary: its settings, and the counts of the release in use and of the new one.
    pub(in crate::cli) canary: Option<(Canary, Counts, Counts)>,
}

/// Progress of a rollout on one app-node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct NodeProgress {
    /// When the node was first seen to use it.
    pub(in crate::cli) in_use_after: Option<Duration>,
    /// Whether the node uses it and may still take it back.
    pub(in crate::cli) is_on_trial: bool,
    /// Last reported stage, until the node uses it.
    pub(in crate::cli) stage: Option<NodeStage>,
    /// Why instances began without the state of their predecessors.
    pub(in crate::cli) states_refused: Vec<String>,
}

/// The progress of a rollout, from the snapshots so far.
pub(super) struct RolloutProgress {
    app: Namespace,
    number: u64,
    phase: Option<Phase>,
    nodes: BTreeMap<NodeId, NodeProgress>,
    /// When the release was first seen to be in use.
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

    /// Takes in a snapshot, reports what is new, and returns the result once the rollout has ended.
    ///
    /// # Errors
    /// When the board no longer has the release.
    pub(super) fn update(
        &mut self,
        board: &Board,
        nodes: &[(NodeId, Option<NodeReport>)],
        now: Duration,
        report: &mut dyn FnMut(&str),
    ) -> Result<Option<RolloutResult>> {
        let app_releases = board.apps.get(&self.app);
        let found = app_releases.and_then(|app_releases| Some((app_releases, app_releases.release(self.number)?)));
        let (app_releases, release) = found.ok_or_else(|| {
            anyhow!(
                "release {} is no longer kept, because newer ones have replaced it; plugnode releases lists them",
                self.number
            )
        })?;
        self.update_nodes(nodes, now, report);
        self.update_phase(app_releases, now, report);
        self.update_canary(app_releases, nodes);
        let outcome = match &release.state {
            ReleaseState::RollingOut => return Ok(None),
            // A first release that no node has started yet.
            ReleaseState::Current if self.nodes.is_empty() && !release.is_tried && release.first_failure.is_none() => {
                return Ok(None);
            }
            // A first release that no node could start, or that fails: there is no other to return to.
            ReleaseState::Current
                if !release.is_tried && release.first_failure.is_some() && !app_releases.can_revert() =>
            {
                RolloutOutcome::Failed(release.first_failure.clone().unwrap_or_default())
            }
            ReleaseState::Current if !self.has_arrived(now) => return Ok(None),
            ReleaseState::Current if !release.is_tried => RolloutOutcome::NotTried,
            ReleaseState::Current => RolloutOutcome::InUse,
            ReleaseState::Retired => RolloutOutcome::Replaced(app_releases.current),
            ReleaseState::Failed(reason) => RolloutOutcome::Failed(reason.clone()),
            ReleaseState::Superseded(by) => RolloutOutcome::Superseded(*by),
            ReleaseState::Cancelled => RolloutOutcome::Cancelled,
        };
        Ok(Some(RolloutResult {
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

    fn update_phase(&mut self, app_releases: &AppReleases, now: Duration, report: &mut dyn FnMut(&str)) {
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
            // The nodes' stages are reported instead.
            (Phase::Preparing, _) => return,
            (Phase::Canary, Some(canary)) => {
                let time = Duration::from_millis(canary.for_ms);
                format!("{} % of the partitions go to it for {time:?}", canary.percent)
            }
            (Phase::Trying | Phase::Canary, _) => {
                "every node is ready; first events go to it, one at a time".to_owned()
            }
        };
        report(&format!("{words} ({})", seconds(now)));
    }

    fn update_nodes(&mut self, nodes: &[(NodeId, Option<NodeReport>)], now: Duration, report: &mut dyn FnMut(&str)) {
        let mut seen = BTreeMap::new();
        for (node, latest) in nodes {
            let app = latest.as_ref().map(|latest| latest.apps.get(&self.app));
            // A node that does not run the app has no part in its rollout.
            if app.is_some_and(|app| app.is_none()) {
                continue;
            }
            let mut progress = self.nodes.remove(node).unwrap_or_default();
            if let Some(app) = app.flatten()
                && let Some(words) = progress.update(app, self.number, now)
            {
                report(&format!("{node} {words} ({})", seconds(now)));
            }
            seen.insert(node.clone(), progress);
        }
        for gone in std::mem::replace(&mut self.nodes, seen).into_keys() {
            report(&format!("{gone} is gone ({})", seconds(now)));
        }
    }

    /// Keeps the latest counts of both sides of a canary. Nodes may still report them just after it has ended.
    fn update_canary(&mut self, app_releases: &AppReleases, nodes: &[(NodeId, Option<NodeReport>)]) {
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
        // After the canary, nodes that no longer report it are missing in the sum: keep the larger one.
        if known.is_none_or(|(.., latest)| new.events >= latest.events) || rollout.is_some() {
            self.canary = Some((canary, old, new));
        }
    }

    /// Whether every node uses the release, or has been waited for long enough.
    fn has_arrived(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(*self.current_after.get_or_insert(now));
        self.nodes.values().all(|node| match (node.in_use_after, &node.stage) {
            _ if node.is_on_trial => since >= BEHIND,
            (Some(_), _) => true,
            (None, Some(NodeStage::Ready | NodeStage::Proven)) => since >= QUIET,
            (None, _) => since >= BEHIND,
        })
    }
}

impl NodeProgress {
    /// Takes in a node's report, and returns in words what is new in it.
    fn update(&mut self, app: &AppReport, number: u64, now: Duration) -> Option<String> {
        let progress = app.progress.as_ref().filter(|progress| progress.release == number);
        if app.release == number {
            // It may still be taken back while it has events and has answered none of them, or while its instances take over the
            // state of their predecessors.
            let rates = [
                &app.counts.per_second,
                &progress.map_or(0.0, |progress| progress.counts.per_second),
            ];
            let has_events = app.in_hand > 0 || rates.into_iter().any(|rate| *rate > 0.0);
            self.is_on_trial = !app.have_begun || (progress.is_some() && has_events);
            self.states_refused.clone_from(&app.states_refused);
            self.stage = None;
            return match self.in_use_after.replace(self.in_use_after.unwrap_or(now)) {
                Some(_) => None,
                None => Some("uses it".to_owned()),
            };
        }
        // Not in use there, or taken back.
        self.in_use_after = None;
        let progress = progress?;
        if self.stage.as_ref() == Some(&progress.stage) {
            return None;
        }
        self.stage = Some(progress.stage.clone());
        Some(stage_in_words(&progress.stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_release::{ComponentFile, Digest, ReleaseProgress};

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

    fn node(name: &str, release: u64, stage: Option<NodeStage>) -> (NodeId, Option<NodeReport>) {
        let app = AppReport {
            release,
            digest: Digest::of(b"a"),
            instances: 4,
            in_hand: 0,
            counts: Counts::default(),
            progress: stage.map(|stage| ReleaseProgress {
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

    struct Fixture {
        progress: RolloutProgress,
        reported: Vec<String>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                progress: RolloutProgress::new(APP.into(), 2),
                reported: Vec::new(),
            }
        }

        fn update(
            &mut self,
            board: &Board,
            nodes: &[(NodeId, Option<NodeReport>)],
            seconds: u64,
        ) -> Option<RolloutOutcome> {
            let report = &mut |line: &str| self.reported.push(line.to_owned());
            let result = self.progress.update(board, nodes, Duration::from_secs(seconds), report);
            result.unwrap().map(|result| result.outcome)
        }
    }

    #[test]
    fn reports_each_step_once() {
        let mut fixture = Fixture::new();
        let rolling_out = board(|_| {});
        let compiling = [node("app-1", 1, Some(NodeStage::Compiling)), ("app-2".into(), None)];
        assert_eq!(fixture.update(&rolling_out, &compiling, 1), None);
        assert_eq!(fixture.update(&rolling_out, &compiling, 2), None);
        let trying = board(|app_releases| app_releases.rollout.as_mut().unwrap().phase = Phase::Trying);
        let ready = [node("app-1", 1, Some(NodeStage::Ready))];
        assert_eq!(fixture.update(&trying, &ready, 3), None);
        assert_eq!(
            fixture.update(&board(in_use), &[node("app-1", 2, None)], 4),
            Some(RolloutOutcome::InUse)
        );
        assert_eq!(
            fixture.reported,
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
    fn waits_a_limited_time_for_quiet_and_late_nodes() {
        let in_use = board(in_use);
        for (stage, least) in [(NodeStage::Ready, 1), (NodeStage::Behind("no room".into()), 10)] {
            let mut fixture = Fixture::new();
            let nodes = [node("app-1", 2, None), node("app-2", 1, Some(stage))];
            assert_eq!(fixture.update(&in_use, &nodes, 5), None);
            assert_eq!(fixture.update(&in_use, &nodes, 5 + least), Some(RolloutOutcome::InUse));
            assert_eq!(fixture.progress.nodes[&NodeId::from("app-2")].in_use_after, None);
        }
    }

    #[test]
    fn release_without_events_is_not_tried() {
        let untried = board(|app_releases| {
            in_use(app_releases);
            app_releases.releases[1].is_tried = false;
        });
        assert_eq!(
            Fixture::new().update(&untried, &[node("app-1", 2, None)], 4),
            Some(RolloutOutcome::NotTried)
        );
    }

    #[test]
    fn final_states_end_the_rollout_at_once() {
        for (state, outcome) in [
            (ReleaseState::Failed("no".into()), RolloutOutcome::Failed("no".into())),
            (ReleaseState::Superseded(3), RolloutOutcome::Superseded(3)),
            (ReleaseState::Cancelled, RolloutOutcome::Cancelled),
            (ReleaseState::Retired, RolloutOutcome::Replaced(1)),
        ] {
            let board = board(|app_releases| app_releases.releases[1].state = state);
            assert_eq!(
                Fixture::new().update(&board, &[node("app-1", 1, None)], 1),
                Some(outcome)
            );
        }
        let forgotten = board(|app_releases| drop(app_releases.releases.pop()));
        let updated = RolloutProgress::new(APP.into(), 2).update(&forgotten, &[], Duration::ZERO, &mut |_| {});
        assert!(updated.is_err());
    }

    #[test]
    fn node_without_the_app_is_ignored() {
        let mut other = node("app-2", 1, None);
        other.1.as_mut().unwrap().apps.clear();
        let mut fixture = Fixture::new();
        let nodes = [node("app-1", 2, None), other];
        assert_eq!(fixture.update(&board(in_use), &nodes, 1), Some(RolloutOutcome::InUse));
        assert_eq!(fixture.progress.nodes.len(), 1);
    }
}
