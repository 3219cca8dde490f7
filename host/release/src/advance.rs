//! Advances a rollout through its phases, by what the app-nodes report.

use std::time::Duration;

use crate::app_releases::AppReleases;
use crate::canary::CanaryVerdict;
use crate::release::ReleaseState;
use crate::report::{NodeStage, NodeStatus};
use crate::rollout::Phase;

/// Time within which all nodes must be ready, or the rollout fails. Compiling a large component takes half a minute.
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest wait for all nodes to handle their first events. After it, the rollout goes on; the release is reverted if first
/// events fail later.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(15);

impl AppReleases {
    /// Enters the next phase, promotes, fails or reverts, if the reports of the nodes that run the app call for it. Returns
    /// whether anything changed. `age` is how long the present phase has lasted.
    pub fn advance(&mut self, nodes: &[NodeStatus<'_>], age: Duration) -> bool {
        if self.revert_if_failed(nodes) || self.record_first_event(nodes) {
            return true;
        }
        let Some(rollout) = &self.rollout else { return false };
        let release = rollout.release;
        if let Some(reason) = failure(nodes, release) {
            self.end_rollout(ReleaseState::Failed(reason));
            return true;
        }
        let unready = nodes.iter().find(|node| !node.is_ready(release));
        match rollout.phase {
            Phase::Preparing if !nodes.is_empty() && unready.is_none() => match self.needs_trial(release) {
                true => self.enter(Phase::Trying),
                false => self.promote(false),
            },
            Phase::Preparing if age > PREPARE_TIMEOUT => {
                let reason = match unready {
                    Some(node) => format!("{} was not ready within {PREPARE_TIMEOUT:?}; see its log", node.node),
                    None => format!("no app-node ran the app within {PREPARE_TIMEOUT:?}; start one"),
                };
                self.end_rollout(ReleaseState::Failed(reason));
            }
            // A node has joined, or was restarted.
            Phase::Trying if unready.is_some() => self.enter(Phase::Preparing),
            Phase::Trying if nodes.is_empty() => return false,
            Phase::Trying if age > TRIAL_TIMEOUT || nodes.iter().all(|node| node.has_tried(release)) => {
                match rollout.canary {
                    Some(_) => self.enter(Phase::Canary),
                    None => self.promote(nodes.iter().any(|node| node.is_proven(release))),
                }
            }
            Phase::Canary => {
                let canary = rollout.canary.clone().unwrap_or_default();
                match canary.verdict(release, nodes, age) {
                    CanaryVerdict::Undecided => return false,
                    CanaryVerdict::Worse(reason) => self.end_rollout(ReleaseState::Failed(reason)),
                    CanaryVerdict::AsGood => self.promote(true),
                }
            }
            Phase::Preparing | Phase::Trying => return false,
        }
        true
    }

    fn enter(&mut self, phase: Phase) {
        if let Some(rollout) = &mut self.rollout {
            rollout.phase = phase;
        }
    }

    /// Records whether the first event of the current release was handled or has failed.
    fn record_first_event(&mut self, nodes: &[NodeStatus<'_>]) -> bool {
        let current = self.current;
        if self.in_use().is_tried {
            return false;
        }
        if nodes.iter().any(|node| node.has_answered(current)) {
            self.set_tried();
            return true;
        }
        let failure = nodes.iter().find_map(|node| node.first_failure(current));
        match failure.filter(|_| self.in_use().first_failure.is_none()) {
            Some(failure) => self.set_first_failure(failure),
            None => return false,
        }
        true
    }

    /// Reverts the current release if it fails on a node that had no events for it before the promotion.
    fn revert_if_failed(&mut self, nodes: &[NodeStatus<'_>]) -> bool {
        match failure(nodes, self.current) {
            Some(reason) => self.revert(reason),
            None => false,
        }
    }
}

/// Why the release failed, if it did on some node.
fn failure(nodes: &[NodeStatus<'_>], release: u64) -> Option<String> {
    nodes.iter().find_map(|node| match node.stage(release) {
        Some(NodeStage::Failed(reason)) => Some(format!("on {}: {reason}", node.node)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppReport, ComponentFile, Counts, Digest, ReleaseProgress};
    use plugnode_message::NodeId;

    const NO_TIME: Duration = Duration::ZERO;

    fn component(name: &str) -> ComponentFile {
        ComponentFile {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        }
    }

    fn rolling_out() -> AppReleases {
        let mut app = AppReleases::configured(component("a"), 0, 10);
        app.deploy(component("b"), None, 0).unwrap();
        app
    }

    fn report(release: u64, stage: NodeStage) -> AppReport {
        AppReport {
            release: 1,
            digest: Digest::of(b"a"),
            instances: 4,
            in_hand: 0,
            counts: Counts::default(),
            progress: Some(ReleaseProgress {
                release,
                stage,
                counts: Counts::default(),
            }),
            have_begun: true,
            has_answered: false,
            first_failure: None,
            states_refused: Vec::new(),
        }
    }

    fn advance(app: &mut AppReleases, stages: &[Option<NodeStage>], age: Duration) -> bool {
        let reports: Vec<_> = stages
            .iter()
            .map(|stage| stage.clone().map(|stage| report(2, stage)))
            .collect();
        let node = NodeId::from("app-1");
        let nodes: Vec<_> = reports
            .iter()
            .map(|report| NodeStatus {
                node: &node,
                app: report.as_ref(),
            })
            .collect();
        app.advance(&nodes, age)
    }

    #[test]
    fn promotes_after_trial_on_every_node() {
        let mut app = rolling_out();
        assert!(!advance(&mut app, &[Some(NodeStage::Ready), None], NO_TIME));
        assert!(!advance(
            &mut app,
            &[Some(NodeStage::Ready), Some(NodeStage::Compiling)],
            NO_TIME
        ));
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Ready), Some(NodeStage::Ready)],
            NO_TIME
        ));
        assert_eq!(app.current, 1);
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Proven), Some(NodeStage::Proven)],
            NO_TIME
        ));
        assert_eq!((app.current, &app.rollout), (2, &None));
        assert!(app.in_use().is_tried);
    }

    #[test]
    fn node_without_events_does_not_delay_rollout() {
        let mut app = rolling_out();
        advance(&mut app, &[Some(NodeStage::Ready)], NO_TIME);
        assert!(advance(&mut app, &[Some(NodeStage::Ready)], NO_TIME));
        assert_eq!(app.current, 2);
        assert!(!app.in_use().is_tried);
        let mut report = report(2, NodeStage::Proven);
        (report.release, report.progress, report.has_answered) = (2, None, true);
        let node = NodeId::from("app-1");
        let status = NodeStatus {
            node: &node,
            app: Some(&report),
        };
        assert!(app.advance(&[status], NO_TIME), "its first events were handled");
        assert!(app.in_use().is_tried);
        assert!(!app.advance(&[status], NO_TIME));
    }

    #[test]
    fn waits_for_busy_node_until_trial_timeout() {
        let mut app = rolling_out();
        advance(&mut app, &[Some(NodeStage::Ready)], NO_TIME);
        let mut busy = report(2, NodeStage::Ready);
        busy.counts.per_second = 0.1;
        let node = NodeId::from("app-1");
        let status = NodeStatus {
            node: &node,
            app: Some(&busy),
        };
        assert!(!app.advance(&[status], TRIAL_TIMEOUT));
        assert!(app.advance(&[status], TRIAL_TIMEOUT * 2));
    }

    #[test]
    fn node_that_joins_during_trial_is_prepared_first() {
        let mut app = rolling_out();
        advance(&mut app, &[Some(NodeStage::Ready)], NO_TIME);
        assert!(!advance(&mut app, &[], TRIAL_TIMEOUT * 2), "no node reports");
        assert!(advance(&mut app, &[Some(NodeStage::Proven), None], TRIAL_TIMEOUT * 2));
        assert!(!advance(
            &mut app,
            &[Some(NodeStage::Proven), Some(NodeStage::Compiling)],
            NO_TIME
        ));
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Proven), Some(NodeStage::Ready)],
            NO_TIME
        ));
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Proven), Some(NodeStage::Ready)],
            NO_TIME
        ));
        assert_eq!(app.current, 2);
    }

    #[test]
    fn failing_current_release_is_reverted_during_next_rollout() {
        let mut app = rolling_out();
        app.promote(true);
        app.deploy(component("c"), None, 0).unwrap();
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Failed("it broke".into()))],
            NO_TIME
        ));
        assert_eq!(app.current, 1);
        assert_eq!(app.rolling_out().map(|release| release.number), Some(3));
    }

    #[test]
    fn failure_on_one_node_ends_rollout() {
        let mut app = rolling_out();
        let broken = NodeStage::Failed("it does not compile".into());
        assert!(advance(&mut app, &[Some(NodeStage::Ready), Some(broken)], NO_TIME));
        assert_eq!((app.current, &app.rollout), (1, &None));
        let reason = "on app-1: it does not compile".to_owned();
        assert_eq!(app.release(2).unwrap().state, ReleaseState::Failed(reason));
    }

    #[test]
    fn release_failing_first_events_after_promotion_is_reverted() {
        let mut app = rolling_out();
        app.promote(true);
        assert!(!advance(
            &mut app,
            &[Some(NodeStage::Behind("it is slow".into()))],
            NO_TIME
        ));
        assert!(advance(
            &mut app,
            &[Some(NodeStage::Failed("it broke".into()))],
            NO_TIME
        ));
        assert_eq!(app.current, 1);
    }

    #[test]
    fn rollout_fails_when_nodes_are_never_ready() {
        let mut app = rolling_out();
        assert!(!advance(&mut app, &[None], PREPARE_TIMEOUT));
        assert!(advance(&mut app, &[None], PREPARE_TIMEOUT * 2));
        assert!(matches!(app.release(2).unwrap().state, ReleaseState::Failed(_)));
    }

    #[test]
    fn rollback_needs_no_trial() {
        let mut app = rolling_out();
        app.promote(true);
        app.rollback(None, 0).unwrap();
        let ready = report(3, NodeStage::Ready);
        let node = NodeId::from("app-1");
        let status = NodeStatus {
            node: &node,
            app: Some(&ready),
        };
        assert!(app.advance(&[status], NO_TIME));
        assert_eq!((app.current, app.in_use().file.as_str()), (3, "a"));
    }
}
