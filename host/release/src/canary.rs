//! Canary: gives a new release a share of the partitions, and compares it with the current one by failure rate and latency.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::report::{Counts, NodeStatus};
use plugnode_message::Partition;

/// Failures from which on the failure rate is judged before the canary's time is over. (Fewer are chance.)
const MIN_FAILURES_EARLY: u64 = 5;
/// Failures from which on the failure rate is judged at the end of the canary's time.
const MIN_FAILURES: u64 = 2;
/// Critical value of the failure test before the time is over, in standard errors. Higher, because the test is repeated.
const CRITICAL_EARLY: f64 = 3.5;
/// Critical value at the end of the canary's time: 2.3 fails one in a hundred releases that are as good as the current one.
const CRITICAL: f64 = 2.3;
/// Events of either release from which on latency is compared.
const MIN_EVENTS_FOR_LATENCY: u64 = 200;
/// Differences in latency below this many microseconds are noise, whatever the ratio.
const NOISE_US: u64 = 1_000;

/// Settings of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Share of the partitions that the new release handles, in percent. A client belongs to one partition, so all its events
    /// are handled by the same release.
    pub percent: f64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
    /// Allowed excess of its failure rate, in percentage points.
    pub failure_margin: f64,
    /// Allowed excess of its p99 latency, in percent.
    pub p99_margin: f64,
}

/// Result of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CanaryVerdict {
    /// It needs more time.
    Undecided,
    /// The new release is worse, for this reason.
    Worse(String),
    /// The new release can be promoted.
    AsGood,
}

impl Default for Canary {
    /// 10 % of the partitions for two minutes; allows 1 percentage point more failures and a p99 latency 50 % higher.
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
    /// The partitions that the new release handles, out of `count`: at least one, and not all if there are several. They are
    /// chosen by a hash of the release, so that not always the same clients get canaries.
    pub fn partitions(&self, release: u64, count: u16) -> BTreeSet<Partition> {
        let mut all: Vec<u16> = (0..count).collect();
        all.sort_unstable_by_key(|partition| (xxh3_64_with_seed(&partition.to_le_bytes(), release), *partition));
        let share = (f64::from(count) * self.percent / 100.0).round() as usize;
        let share = share.clamp(1, usize::from(count).saturating_sub(1).max(1));
        all.into_iter().take(share).map(Partition).collect()
    }

    /// Compares the release with the current one, by the reports of the nodes. `age` is how long the canary has run.
    pub(crate) fn verdict(&self, release: u64, nodes: &[NodeStatus<'_>], age: Duration) -> CanaryVerdict {
        let reports = || nodes.iter().filter_map(|node| node.app);
        let progress = reports().filter_map(|app| app.progress.as_ref());
        let new = Counts::sum(
            progress
                .filter(|progress| progress.release == release)
                .map(|progress| &progress.counts),
        );
        let old = Counts::sum(reports().map(|app| &app.counts));
        let is_over = age >= Duration::from_millis(self.for_ms);
        let (min_failures, critical) = match is_over {
            true => (MIN_FAILURES, CRITICAL),
            false => (MIN_FAILURES_EARLY, CRITICAL_EARLY),
        };
        if new.failures >= min_failures
            && let Some(reason) = self.too_many_failures(&new, &old, critical)
        {
            return CanaryVerdict::Worse(reason);
        }
        if !is_over {
            return CanaryVerdict::Undecided;
        }
        if new.events == 0 {
            let time = Duration::from_millis(self.for_ms);
            return CanaryVerdict::Worse(format!(
                "its partitions had no event in {time:?}, so it cannot be judged; use a larger share or a longer time"
            ));
        }
        match self.too_slow(&new, &old) {
            Some(reason) => CanaryVerdict::Worse(reason),
            None => CanaryVerdict::AsGood,
        }
    }

    /// One-sided z-test of two proportions: is the failure rate above the margin by more than chance explains? (If one event in
    /// a hundred fails with any release, 5 failures in the first 200 events are chance.)
    fn too_many_failures(&self, new: &Counts, old: &Counts, critical: f64) -> Option<String> {
        let (new_rate, old_rate) = (new.failure_rate(), old.failure_rate());
        let variance = |rate: f64, events: u64| {
            let share = (rate / 100.0).clamp(0.0, 1.0);
            share * (1.0 - share) / events.max(1) as f64
        };
        let allowed = old_rate + self.failure_margin;
        let error = (variance(allowed, new.events) + variance(old_rate, old.events)).sqrt() * 100.0;
        (new_rate > allowed + critical * error).then(|| {
            format!(
                "{new_rate:.1} % of its {} events failed, {old_rate:.1} % of the {} events of the release in use",
                new.events, old.events
            )
        })
    }

    fn too_slow(&self, new: &Counts, old: &Counts) -> Option<String> {
        if new.events.min(old.events) < MIN_EVENTS_FOR_LATENCY {
            return None;
        }
        let (new_p99, old_p99) = (new.p99_us, old.p99_us);
        let allowed = old_p99 as f64 * (1.0 + self.p99_margin / 100.0) + NOISE_US as f64;
        (new_p99 as f64 > allowed)
            .then(|| format!("its p99 handling time is {new_p99} µs, that of the release in use {old_p99} µs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppReport, Digest, NodeStage, ReleaseProgress};
    use plugnode_message::NodeId;

    fn counts(events: u64, failures: u64, usual_us: u64, slow_us: u64) -> Counts {
        Counts {
            events,
            failures,
            times: vec![(usual_us, events - events / 20), (slow_us, events / 20)],
            ..Counts::default()
        }
    }

    fn verdict(old: Counts, new: Counts, over: bool) -> CanaryVerdict {
        let canary = Canary::default();
        let report = AppReport {
            release: 1,
            digest: Digest::of(b""),
            instances: 1,
            in_hand: 0,
            counts: old,
            progress: Some(ReleaseProgress {
                release: 2,
                stage: NodeStage::Proven,
                counts: new,
            }),
            have_begun: true,
            has_answered: false,
            first_failure: None,
            states_refused: Vec::new(),
        };
        let node = NodeStatus {
            node: &NodeId::from("app-1"),
            app: Some(&report),
        };
        let age = Duration::from_millis(if over { canary.for_ms } else { 0 });
        canary.verdict(2, &[node], age)
    }

    #[test]
    fn gets_its_share_of_partitions() {
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
    fn clearly_higher_failure_rate_fails_early() {
        let good = counts(10_000, 10, 100, 200);
        assert_eq!(
            verdict(good.clone(), counts(19, 4, 100, 200), false),
            CanaryVerdict::Undecided,
            "too few"
        );
        assert!(matches!(
            verdict(good.clone(), counts(19, 4, 100, 200), true),
            CanaryVerdict::Worse(_)
        ));
        assert_eq!(
            verdict(good.clone(), counts(19, 1, 100, 200), true),
            CanaryVerdict::AsGood
        );
        assert!(matches!(
            verdict(good.clone(), counts(8, 5, 100, 200), false),
            CanaryVerdict::Worse(_)
        ));
        assert!(matches!(
            verdict(good.clone(), counts(500, 15, 100, 200), false),
            CanaryVerdict::Worse(_)
        ));
        assert_eq!(
            verdict(good, counts(500, 5, 100, 200), false),
            CanaryVerdict::Undecided,
            "within the margin"
        );
    }

    #[test]
    fn failures_explained_by_chance_are_allowed() {
        let in_use = counts(400, 4, 100, 200);
        assert_eq!(
            verdict(in_use.clone(), counts(200, 5, 100, 200), false),
            CanaryVerdict::Undecided
        );
        assert_eq!(
            verdict(in_use.clone(), counts(200, 5, 100, 200), true),
            CanaryVerdict::AsGood
        );
        assert!(matches!(
            verdict(in_use, counts(200, 16, 100, 200), false),
            CanaryVerdict::Worse(_)
        ));
    }

    #[test]
    fn equal_release_passes_when_time_is_over() {
        let good = counts(10_000, 10, 100, 200);
        assert_eq!(verdict(good.clone(), good.clone(), false), CanaryVerdict::Undecided);
        assert_eq!(verdict(good.clone(), good.clone(), true), CanaryVerdict::AsGood);
        assert_eq!(
            verdict(good.clone(), counts(3, 0, 100, 90_000), true),
            CanaryVerdict::AsGood,
            "too few"
        );
        assert!(matches!(
            verdict(good, Counts::default(), true),
            CanaryVerdict::Worse(_)
        ));
    }

    #[test]
    fn higher_p99_latency_fails() {
        let good = counts(10_000, 10, 1_000, 2_000);
        assert!(matches!(
            verdict(good.clone(), counts(1_000, 0, 1_000, 4_100), true),
            CanaryVerdict::Worse(_)
        ));
        assert_eq!(
            verdict(good, counts(1_000, 0, 1_000, 3_900), true),
            CanaryVerdict::AsGood
        );
    }
}
