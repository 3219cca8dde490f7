//! A release on its way into use, and the step that it takes next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::canary::{Canary, Opinion};
use super::report::{Peer, Stage};
use super::track::{State, Track};

/// How long nodes may take to get ready. Compilers of large components take half a minute.
pub const PREPARATION: Duration = Duration::from_secs(300);
/// How long a rollout waits for nodes that have events to see the first ones answered. One that has not by then takes the
/// release into use all the same, and still takes it back should these fail.
const TRIAL: Duration = Duration::from_secs(15);

/// A release on its way into use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The release.
    pub release: u64,
    /// How far the cluster is with it.
    pub phase: Phase,
    /// Whether it is to be compared with the one in use, and how.
    pub canary: Option<Canary>,
}

/// How far the cluster is with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Every node fetches, compiles and starts it.
    Preparing,
    /// Every node gives it its first events, one at a time.
    Trying,
    /// It has a share of the partitions.
    Canary,
}

impl Track {
    /// Takes the rollout a step further, if what the nodes that run the app tell allows or demands it, and says whether
    /// anything changed. `age` is for how long the present phase has lasted.
    pub fn step(&mut self, peers: &[Peer<'_>], age: Duration) -> bool {
        if self.give_up_current(peers) || self.see_tried(peers) {
            return true;
        }
        let Some(rollout) = &self.rollout else { return false };
        let release = rollout.release;
        if let Some(reason) = failure(peers, release) {
            self.end_rollout(State::Failed(reason));
            return true;
        }
        let late = peers.iter().find(|peer| !peer.is_ready(release));
        match rollout.phase {
            Phase::Preparing if !peers.is_empty() && late.is_none() => match self.needs_trial(release) {
                true => self.enter(Phase::Trying),
                false => self.promote(false),
            },
            Phase::Preparing if age > PREPARATION => {
                let reason = match late {
                    Some(peer) => format!("{} did not get ready within {PREPARATION:?}", peer.node),
                    None => format!("no app-node was there to take it up within {PREPARATION:?}"),
                };
                self.end_rollout(State::Failed(reason));
            }
            // Somebody has come, or has begun anew.
            Phase::Trying if late.is_some() => self.enter(Phase::Preparing),
            Phase::Trying if peers.is_empty() => return false,
            Phase::Trying if age > TRIAL || peers.iter().all(|peer| peer.has_tried(release)) => match rollout.canary {
                Some(_) => self.enter(Phase::Canary),
                None => self.promote(peers.iter().any(|peer| peer.is_proven(release))),
            },
            Phase::Canary => {
                let canary = rollout.canary.clone().unwrap_or_default();
                match canary.opinion(release, peers, age) {
                    Opinion::None => return false,
                    Opinion::Worse(reason) => self.end_rollout(State::Failed(reason)),
                    Opinion::AsGood => self.promote(true),
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

    /// Takes note of the release in use having answered its first event, or failed it.
    fn see_tried(&mut self, peers: &[Peer<'_>]) -> bool {
        let current = self.current;
        if self.in_use().is_tried {
            return false;
        }
        if peers.iter().any(|peer| peer.has_answered(current)) {
            self.note_tried();
            return true;
        }
        let trouble = peers.iter().find_map(|peer| peer.trouble(current));
        match trouble.filter(|_| self.in_use().trouble.is_none()) {
            Some(trouble) => self.note_trouble(trouble),
            None => return false,
        }
        true
    }

    /// A release that was taken into use before some node had events for it, and then fails there.
    fn give_up_current(&mut self, peers: &[Peer<'_>]) -> bool {
        match failure(peers, self.current) {
            Some(reason) => self.revert(reason),
            None => false,
        }
    }
}

/// Why a release cannot be used, when some node says so.
fn failure(peers: &[Peer<'_>], release: u64) -> Option<String> {
    peers.iter().find_map(|peer| match peer.stage(release) {
        Some(Stage::Failed(reason)) => Some(format!("on {}: {reason}", peer.node)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{AppReport, Counts, Digest, Progress, Target};
    use super::*;
    use plugnode_message::NodeId;

    const MOMENT: Duration = Duration::ZERO;

    fn target(name: &str) -> Target {
        Target {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        }
    }

    fn rolling_out() -> Track {
        let mut track = Track::first(target("a"), 0, 10);
        track.deploy(target("b"), None, 0).unwrap();
        track
    }

    fn report(release: u64, stage: Stage) -> AppReport {
        AppReport {
            release: 1,
            digest: Digest::of(b"a"),
            instances: 4,
            in_hand: 0,
            counts: Counts::default(),
            progress: Some(Progress {
                release,
                stage,
                counts: Counts::default(),
            }),
            have_begun: true,
            has_answered: false,
            trouble: None,
            states_refused: Vec::new(),
        }
    }

    fn step(track: &mut Track, stages: &[Option<Stage>], age: Duration) -> bool {
        let reports: Vec<_> = stages
            .iter()
            .map(|stage| stage.clone().map(|stage| report(2, stage)))
            .collect();
        let node = NodeId::from("app-1");
        let peers: Vec<_> = reports
            .iter()
            .map(|report| Peer {
                node: &node,
                app: report.as_ref(),
            })
            .collect();
        track.step(&peers, age)
    }

    #[test]
    fn a_release_is_taken_into_use_when_every_node_has_tried_it() {
        let mut track = rolling_out();
        assert!(!step(&mut track, &[Some(Stage::Ready), None], MOMENT));
        assert!(!step(&mut track, &[Some(Stage::Ready), Some(Stage::Compiling)], MOMENT));
        assert!(step(&mut track, &[Some(Stage::Ready), Some(Stage::Ready)], MOMENT));
        assert_eq!(track.current, 1);
        assert!(step(&mut track, &[Some(Stage::Proven), Some(Stage::Proven)], MOMENT));
        assert_eq!((track.current, &track.rollout), (2, &None));
        assert!(track.in_use().is_tried);
    }

    #[test]
    fn a_node_without_events_holds_up_nobody() {
        let mut track = rolling_out();
        step(&mut track, &[Some(Stage::Ready)], MOMENT);
        assert!(step(&mut track, &[Some(Stage::Ready)], MOMENT));
        assert_eq!(track.current, 2);
        assert!(!track.in_use().is_tried);
        let mut app = report(2, Stage::Proven);
        (app.release, app.progress, app.has_answered) = (2, None, true);
        let node = NodeId::from("app-1");
        let peer = Peer {
            node: &node,
            app: Some(&app),
        };
        assert!(track.step(&[peer], MOMENT), "its first events have come");
        assert!(track.in_use().is_tried);
        assert!(!track.step(&[peer], MOMENT));
    }

    #[test]
    fn a_busy_node_is_waited_for_and_not_for_ever() {
        let mut track = rolling_out();
        step(&mut track, &[Some(Stage::Ready)], MOMENT);
        let mut busy = report(2, Stage::Ready);
        busy.counts.per_second = 0.1;
        let node = NodeId::from("app-1");
        let peer = Peer {
            node: &node,
            app: Some(&busy),
        };
        assert!(!track.step(&[peer], TRIAL));
        assert!(track.step(&[peer], TRIAL * 2));
    }

    #[test]
    fn a_node_that_comes_during_the_trial_gets_ready_first() {
        let mut track = rolling_out();
        step(&mut track, &[Some(Stage::Ready)], MOMENT);
        assert!(!step(&mut track, &[], TRIAL * 2), "nobody is there to say anything");
        assert!(step(&mut track, &[Some(Stage::Proven), None], TRIAL * 2));
        assert!(!step(
            &mut track,
            &[Some(Stage::Proven), Some(Stage::Compiling)],
            MOMENT
        ));
        assert!(step(&mut track, &[Some(Stage::Proven), Some(Stage::Ready)], MOMENT));
        assert!(step(&mut track, &[Some(Stage::Proven), Some(Stage::Ready)], MOMENT));
        assert_eq!(track.current, 2);
    }

    #[test]
    fn what_fails_after_its_promotion_is_taken_back_during_the_next_rollout_too() {
        let mut track = rolling_out();
        track.promote(true);
        track.deploy(target("c"), None, 0).unwrap();
        assert!(step(&mut track, &[Some(Stage::Failed("it broke".into()))], MOMENT));
        assert_eq!(track.current, 1);
        assert_eq!(track.rolling_out().map(|release| release.number), Some(3));
    }

    #[test]
    fn one_node_that_cannot_run_it_ends_it_for_all() {
        let mut track = rolling_out();
        let broken = Stage::Failed("it does not compile".into());
        assert!(step(&mut track, &[Some(Stage::Ready), Some(broken)], MOMENT));
        assert_eq!((track.current, &track.rollout), (1, &None));
        let reason = "on app-1: it does not compile".to_owned();
        assert_eq!(track.release(2).unwrap().state, State::Failed(reason));
    }

    #[test]
    fn what_fails_with_its_first_events_after_its_promotion_is_taken_back() {
        let mut track = rolling_out();
        track.promote(true);
        assert!(!step(&mut track, &[Some(Stage::Behind("it is slow".into()))], MOMENT));
        assert!(step(&mut track, &[Some(Stage::Failed("it broke".into()))], MOMENT));
        assert_eq!(track.current, 1);
    }

    #[test]
    fn nodes_that_never_get_ready_end_it() {
        let mut track = rolling_out();
        assert!(!step(&mut track, &[None], PREPARATION));
        assert!(step(&mut track, &[None], PREPARATION * 2));
        assert!(matches!(track.release(2).unwrap().state, State::Failed(_)));
    }

    #[test]
    fn a_rollback_needs_no_trial() {
        let mut track = rolling_out();
        track.promote(true);
        track.rollback(None, 0).unwrap();
        let ready = report(3, Stage::Ready);
        let node = NodeId::from("app-1");
        let peer = Peer {
            node: &node,
            app: Some(&ready),
        };
        assert!(track.step(&[peer], MOMENT));
        assert_eq!((track.current, track.in_use().file.as_str()), (3, "a"));
    }
}
