//! Deploys under load, one after the other: good builds, and builds with each flaw that a deploy detects.
//!
//! [`Deployer`] records its deploys. Afterwards it checks that every answer came from a release that was allowed to answer.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Plan;
use super::testbed::{LogsOnPanic, Testbed, cluster};
use crate::check::Report;
use crate::console::short;
use crate::{CommandResult, Console, Flaw, Redis, component, rebuilt};

/// Long enough that no node loses its lease.
const LEASE: Duration = Duration::from_secs(10);
/// Interval of deploys, unless one takes longer.
const PAUSE: Duration = Duration::from_secs(1);
/// Duration of a round.
const ROUND: Duration = Duration::from_secs(10);
/// Lifetime of a client, which spans many deploys.
const LIFETIME: Duration = Duration::from_secs(40);
/// One in this many builds has a flaw.
const FLAWED: u64 = 5;
/// Fewest deploys, so that each flaw is tried even on a slow machine.
const LEAST: u64 = FLAWED * Flaw::FOUND_AT_ONCE.len() as u64;
/// Deploys before the memory is first measured.
const WARM: u64 = 5;
/// Bytes by which a process may grow after that.
const GROWTH: u64 = 50 << 20;

/// Deploys builds of the handler `recorder` and records the results.
pub struct Deployer {
    /// The commands, against one cluster.
    pub console: Console,
    /// The next build's number.
    next: u64,
    /// When each build was asked for, by short digest: from then on it may answer.
    requested: BTreeMap<String, u64>,
    /// The release in use.
    in_use: u64,
    /// Short digest of the last release that came into use here.
    digest: Option<String>,
    /// Times until the last node used a release.
    took: Vec<Duration>,
    flawed: u64,
}

impl Deployer {
    /// For a cluster of several processes.
    pub(super) async fn of(bed: &Testbed) -> Self {
        Self::at(Console::of(&bed.cluster.config("app-node"))).await
    }

    /// Starts from the release in use.
    pub async fn at(console: Console) -> Self {
        let first = console.releases().await.remove(0);
        Self {
            console,
            next: 1,
            requested: BTreeMap::from([(short(&first), 0)]),
            in_use: first["release"].as_u64().expect("a release has a number"),
            digest: None,
            took: Vec::new(),
            flawed: 0,
        }
    }

    /// A new build.
    pub fn build(&mut self) -> Vec<u8> {
        self.next += 1;
        // Not a build of an earlier run, which would be compiled already.
        rebuilt(
            &component("recorder"),
            self.next + u64::from(std::process::id()) * 1_000_000,
        )
    }

    /// Deploys a good build and asserts that it comes into use. `now` is the time of the request by the history's clock.
    ///
    /// # Panics
    /// If the deploy fails.
    pub async fn deploy_good(&mut self, now: u64, args: &[&str]) -> CommandResult {
        let build = self.build();
        let answer = self.console.deploy(&build, args).await;
        self.record(&answer, now);
        assert!(answer.is_in_use(), "a good build is not in use: {answer:#?}");
        assert_eq!(answer.code, Some(0), "{answer:#?}");
        answer
    }

    /// Records a release that may have answered, also if its deploy failed.
    pub fn record(&mut self, answer: &CommandResult, now: u64) {
        if answer.release() > 0 {
            self.requested.insert(answer.digest(), now);
        }
        if answer.is_in_use() {
            self.in_use = answer.release();
            self.digest = Some(answer.digest());
            self.took.extend(answer.until_last_node());
        }
    }

    /// Deploys a build with a flaw, and asserts that it fails with a reason and that the release in use stays.
    ///
    /// # Panics
    /// If the flawed build comes into use, or the failure names no reason.
    pub async fn deploy_flawed(&mut self, flaw: Flaw, args: &[&str]) -> CommandResult {
        let build = flaw.of(self.build());
        let answer = self.console.deploy(&build, args).await;
        self.flawed += 1;
        let is_refused = matches!(answer.outcome(), "failed" | "refused");
        assert!(is_refused, "a build with flaw {flaw:?} did not fail: {answer:#?}");
        assert!(answer.code.is_some_and(|code| code != 0), "{flaw:?}: {answer:#?}");
        assert!(!answer.reason().is_empty(), "{flaw:?}: no reason is given: {answer:#?}");
        let status = self.console.status().await;
        assert_eq!(
            status["release"]["release"], self.in_use,
            "{flaw:?}: the release in use has changed: {answer:#?} {status:#}"
        );
        answer
    }

    /// Asserts that the release in use has the component that last came into use here, whatever its number.
    ///
    /// # Panics
    /// When it has another component.
    pub async fn assert_in_use(&self) {
        let status = self.console.status().await;
        let digest = short(&status["release"]);
        assert_eq!(
            Some(&digest),
            self.digest.as_ref(),
            "another release is in use: {status:#}"
        );
    }

    /// Number of the release that last came into use here.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Asserts that every answer of a run came from a build that had been asked for by then.
    ///
    /// # Panics
    /// When one did not.
    pub fn assert_answers_allowed(&self, report: &Report) {
        let named = &report.history.releases;
        assert!(!named.is_empty(), "no answer names a release");
        for (release, answers) in named {
            let asked_for_at = self.requested.get(release);
            assert!(
                asked_for_at.is_some_and(|at| *at <= answers.first_at),
                "release {release} answered before it was deployed: {answers:?}, deployed: {:?}",
                self.requested
            );
        }
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let mut took = self.took.clone();
        took.sort();
        let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1)));
        format!(
            "{} deploys in use, {} of flawed builds refused; to the last node's first use {:.2?} (median), {:.2?} (longest)",
            took.len(),
            self.flawed,
            at(50).copied().unwrap_or_default(),
            at(100).copied().unwrap_or_default()
        )
    }

    async fn storm(&mut self, bed: &Testbed, rounds: usize) {
        let _shown = LogsOnPanic(bed);
        let end = Instant::now() + ROUND * u32::try_from(rounds).expect("the number of rounds is small");
        let progress = bed.check.progress();
        let (mut warm, mut number) = (Vec::new(), 0);
        while Instant::now() < end || number < LEAST {
            let next = Instant::now() + PAUSE;
            number += 1;
            match number % FLAWED {
                0 => {
                    let flaw = Flaw::FOUND_AT_ONCE[(number / FLAWED) as usize % Flaw::FOUND_AT_ONCE.len()];
                    drop(self.deploy_flawed(flaw, &[]).await);
                }
                _ => drop(self.deploy_good(progress.now(), &[]).await),
            }
            if number == WARM {
                warm = bed.memory();
            }
            sleep_until(next).await;
        }
        assert_eq!(self.console.agreement(bed.apps.len()).await, self.in_use);
        println!("{}", self.summary());
        for (before, after) in warm.into_iter().zip(bed.memory()) {
            println!(
                "memory of an app-node: {} MB, {} MB at the end",
                before >> 20,
                after >> 20
            );
            let grown = after.saturating_sub(before);
            assert!(
                grown < GROWTH,
                "after {} deploys a process has grown by {} MB",
                number - WARM,
                grown >> 20
            );
        }
    }
}

/// Deploys a build over three app-nodes every second, every fifth with a flaw: for ten seconds a round, and at least twenty times.
pub(super) async fn swap_storm(plan: Plan) -> Report {
    let lifetime = LIFETIME;
    let plan = Plan { lifetime, ..plan };
    let redis = Redis::new().start().await;
    let bed = Testbed::of(cluster(redis.url(), plan, LEASE), plan, 2, 3).await;
    let mut deployer = Deployer::of(&bed).await;
    deployer.storm(&bed, plan.rounds).await;
    let report = bed.finish_undisturbed("swap-storm").await;
    deployer.assert_answers_allowed(&report);
    report
}

/// The same in one process on the memory transport.
pub(super) async fn swap_storm_in_memory(plan: Plan) -> Report {
    let bed = Testbed::alone(plan).await;
    let mut deployer = Deployer::at(Console::of_node(&bed.apps[0])).await;
    deployer.storm(&bed, plan.rounds).await;
    let report = bed.finish_undisturbed("swap-storm-in-memory").await;
    deployer.assert_answers_allowed(&report);
    report
}
