//! A share of the partitions on a new release, and how it compares with the one in use.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::report::{Counts, Peer};
use plugnode_message::Partition;

/// From so many failures on, their share says something before the time is over
const MANY_FAILURES: u64 = 5;
/// and then.
const SEVERAL_FAILURES: u64 = 2;
/// How many standard errors the failure rate has to be beyond the margin, while it is looked at again and again
const SURE_EARLY: f64 = 3.5;
/// and when it is looked at for the last time (2.3: one in a hundred releases that are as good is refused).
const SURE: f64 = 2.3;
/// From so many events on each side, the slowest of a hundred say something.
const ENOUGH_TIMES: u64 = 200;
/// Less of a difference is noise, however the ratio looks.
const NOISE_US: u64 = 1_000;

/// How a new release is compared with the one in use before it takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The share of the partitions that it gets, in percent. A client is in one partition, and so stays on one side.
    pub percent: f64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// By how many percentage points more of its events may fail.
    pub failure_margin: f64,
    /// By how many percent longer the slowest of a hundred events may take.
    pub p99_margin: f64,
}

/// What can be said of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing yet.
    None,
    /// It is not to be used, for this reason.
    Worse(String),
    /// It can be used.
    AsGood,
}

impl Default for Canary {
    /// A tenth for two minutes; one percentage point more failures, and half as long again for the slowest.
    fn default() -> Self {
        Self {
            percent: 10.0,
            for_ms: 120_000,
            failure_margin: 1.0,
            p99_margin: 50.0,
        }
    }
}

impl Canary {
    /// The partitions that the new release has, out of `count`: at least one, and not all. Which ones they are differs from
    /// release to release.
    pub fn partitions(&self, release: u64, count: u16) -> BTreeSet<Partition> {
        let mut all: Vec<u16> = (0..count).collect();
        all.sort_unstable_by_key(|partition| (xxh3_64_with_seed(&partition.to_le_bytes(), release), *partition));
        let share = (f64::from(count) * self.percent / 100.0).round() as usize;
        let share = share.clamp(1, usize::from(count).saturating_sub(1).max(1));
        all.into_iter().take(share).map(Partition).collect()
    }

    /// Compares the release with the one in use, by what the nodes tell after `age`.
    pub(super) fn opinion(&self, release: u64, peers: &[Peer<'_>], age: Duration) -> Opinion {
        let reports = || peers.iter().filter_map(|peer| peer.app);
        let progress = reports().filter_map(|app| app.progress.as_ref());
        let new = Counts::sum(
            progress
                .filter(|progress| progress.release == release)
                .map(|progress| &progress.counts),
        );
        let old = Counts::sum(reports().map(|app| &app.counts));
        let is_over = age >= Duration::from_millis(self.for_ms);
        let enough = if is_over { SEVERAL_FAILURES } else { MANY_FAILURES };
        if new.failures >= enough
            && let Some(reason) = self.too_many_failures(&new, &old, if is_over { SURE } else { SURE_EARLY })
        {
            return Opinion::Worse(reason);
        }
        if !is_over {
            return Opinion::None;
        }
        if new.events == 0 {
            let time = Duration::from_millis(self.for_ms);
            return Opinion::Worse(format!(
                "its partitions had no event in {time:?}, so nothing is known of it"
            ));
        }
        match self.too_slow(&new, &old) {
            Some(reason) => Opinion::Worse(reason),
            None => Opinion::AsGood,
        }
    }

    /// A one-sided z-test of two proportions: that the failure rate is beyond the margin by more than chance explains. Where one
    /// event of a hundred fails anyhow, 5 of the first 200 say nothing.
    fn too_many_failures(&self, new: &Counts, old: &Counts, sure: f64) -> Option<String> {
        let (new_rate, old_rate) = (new.failure_rate(), old.failure_rate());
        let variance = |rate: f64, events: u64| {
            let share = (rate / 100.0).clamp(0.0, 1.0);
            share * (1.0 - share) / events.max(1) as f64
        };
        let allowed = old_rate + self.failure_margin;
        let error = (variance(allowed, new.events) + variance(old_rate, old.events)).sqrt() * 100.0;
        (new_rate > allowed + sure * error).then(|| {
            format!(
                "{new_rate:.1} % of its {} events failed, {old_rate:.1} % of the {} of the one in use",
                new.events, old.events
            )
        })
    }

    fn too_slow(&self, new: &Counts, old: &Counts) -> Option<String> {
        if new.events.min(old.events) < ENOUGH_TIMES {
            return None;
        }
        let (slow, usual) = (new.p99_us, old.p99_us);
        let most = usual as f64 * (1.0 + self.p99_margin / 100.0) + NOISE_US as f64;
        (slow as f64 > most)
            .then(|| format!("99 of 100 of its events take up to {slow} µs, those of the one in use {usual} µs"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AppReport, Digest, Progress, Stage};
    use super::*;
    use plugnode_message::NodeId;

    fn counts(events: u64, failures: u64, usual_us: u64, slow_us: u64) -> Counts {
        Counts {
            events,
            failures,
            times: vec![(usual_us, events - events / 20), (slow_us, events / 20)],
            ..Counts::default()
        }
    }

    fn opinion(old: Counts, new: Counts, over: bool) -> Opinion {
        let canary = Canary::default();
        let report = AppReport {
            release: 1,
            digest: Digest::of(b""),
            instances: 1,
            in_hand: 0,
            counts: old,
            progress: Some(Progress {
                release: 2,
                stage: Stage::Proven,
                counts: new,
            }),
            have_begun: true,
            has_answered: false,
            trouble: None,
            states_refused: Vec::new(),
        };
        let peer = Peer {
            node: &NodeId::from("app-1"),
            app: Some(&report),
        };
        let age = Duration::from_millis(if over { canary.for_ms } else { 0 });
        canary.opinion(2, &[peer], age)
    }

    #[test]
    fn a_share_of_the_partitions_is_that_share() {
        for (percent, count, wanted) in [
            (10.0, 64, 6),
            (50.0, 64, 32),
            (1.0, 8, 1),
            (100.0, 64, 63),
            (10.0, 1, 1),
        ] {
            let canary = Canary {
                percent,
                ..Canary::default()
            };
            for release in 1..4 {
                let share = canary.partitions(release, count).len();
                assert_eq!(share, wanted, "{percent} % of {count}");
            }
        }
    }

    #[test]
    fn what_fails_more_often_is_given_up_at_once() {
        let good = counts(10_000, 10, 100, 200);
        assert_eq!(
            opinion(good.clone(), counts(19, 4, 100, 200), false),
            Opinion::None,
            "too few"
        );
        assert!(matches!(
            opinion(good.clone(), counts(19, 4, 100, 200), true),
            Opinion::Worse(_)
        ));
        assert_eq!(opinion(good.clone(), counts(19, 1, 100, 200), true), Opinion::AsGood);
        assert!(matches!(
            opinion(good.clone(), counts(8, 5, 100, 200), false),
            Opinion::Worse(_)
        ));
        assert!(matches!(
            opinion(good.clone(), counts(500, 15, 100, 200), false),
            Opinion::Worse(_)
        ));
        assert_eq!(
            opinion(good, counts(500, 5, 100, 200), false),
            Opinion::None,
            "within the margin"
        );
    }

    #[test]
    fn failures_that_chance_explains_are_no_reason() {
        let in_use = counts(400, 4, 100, 200);
        assert_eq!(opinion(in_use.clone(), counts(200, 5, 100, 200), false), Opinion::None);
        assert_eq!(opinion(in_use.clone(), counts(200, 5, 100, 200), true), Opinion::AsGood);
        assert!(matches!(
            opinion(in_use, counts(200, 16, 100, 200), false),
            Opinion::Worse(_)
        ));
    }

    #[test]
    fn what_does_as_well_is_taken_when_the_time_is_over() {
        let good = counts(10_000, 10, 100, 200);
        assert_eq!(opinion(good.clone(), good.clone(), false), Opinion::None);
        assert_eq!(opinion(good.clone(), good.clone(), true), Opinion::AsGood);
        assert_eq!(
            opinion(good.clone(), counts(3, 0, 100, 90_000), true),
            Opinion::AsGood,
            "too few"
        );
        assert!(matches!(opinion(good, Counts::default(), true), Opinion::Worse(_)));
    }

    #[test]
    fn what_is_slower_is_not_taken() {
        let good = counts(10_000, 10, 1_000, 2_000);
        assert!(matches!(
            opinion(good.clone(), counts(1_000, 0, 1_000, 4_100), true),
            Opinion::Worse(_)
        ));
        assert_eq!(opinion(good, counts(1_000, 0, 1_000, 3_900), true), Opinion::AsGood);
    }
}
