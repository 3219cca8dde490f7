//! Deploys under load, one after the other: good builds and builds with each of the flaws that a deploy finds out.
//!
//! [`Deploys`] is somebody who deploys and keeps book of it, so that it can be said afterwards whether every answer came of a
//! release that could answer, and whether each deploy ended as it had to.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Plan;
use super::ground::{Ground, ShownOnPanic, cluster};
use crate::check::Report;
use crate::console::short;
use crate::{Answer, Console, Flaw, Redis, component, rebuilt};

/// How long a node that is not heard of keeps what it holds: nobody is to be taken for dead here.
const LEASE: Duration = Duration::from_secs(10);
/// From deploy to deploy, unless one takes longer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a round of the storm is.
const ROUND: Duration = Duration::from_secs(10);
/// Who stays so long lives through many deploys.
const LIFETIME: Duration = Duration::from_secs(40);
/// One of so many builds has a flaw.
const FLAWED: u64 = 5;
/// At least so many deploys, so that each flaw has its turn however slow the machine is.
const LEAST: u64 = FLAWED * Flaw::FOUND_AT_ONCE.len() as u64;
/// From this many deploys on, a process is to be no larger than it is.
const WARM: u64 = 5;
/// By so much it may be all the same.
const GROWTH: u64 = 50 << 20;

/// Somebody who deploys, and keeps book.
pub struct Deploys {
    /// Where.
    pub console: Console,
    /// The next build's number.
    next: u64,
    /// The builds that may answer, by the name that handlers see, and from when on.
    good: BTreeMap<String, u64>,
    /// The release in use.
    in_use: u64,
    /// The component of the last release that came into use here.
    digest: Option<String>,
    /// How long it took until the last node used a release.
    took: Vec<Duration>,
    flawed: u64,
}

impl Deploys {
    /// In a cluster of many processes.
    pub(super) async fn of(ground: &Ground) -> Self {
        Self::at(Console::of(&ground.cluster.config("app-node"))).await
    }

    /// Looks up what is in use.
    pub async fn at(console: Console) -> Self {
        let first = console.releases().await.remove(0);
        Self {
            console,
            next: 1,
            good: BTreeMap::from([(short(&first), 0)]),
            in_use: first["release"].as_u64().expect("a release has a number"),
            digest: None,
            took: Vec::new(),
            flawed: 0,
        }
    }

    /// Another build.
    pub fn build(&mut self) -> Vec<u8> {
        self.next += 1;
        // Not those of an earlier run, which would be compiled already.
        rebuilt(
            &component("recorder"),
            self.next + u64::from(std::process::id()) * 1_000_000,
        )
    }

    /// Deploys a good build, asked for at this time of the history's clock, and sees it taken into use.
    ///
    /// # Panics
    /// When it is not.
    pub async fn good(&mut self, now: u64, args: &[&str]) -> Answer {
        let build = self.build();
        let answer = self.console.deploy(&build, args).await;
        self.book(&answer, now);
        assert!(answer.is_in_use(), "a good build is not in use: {answer:#?}");
        assert_eq!(answer.code, Some(0), "{answer:#?}");
        answer
    }

    /// Takes note of a release that may have answered, whatever has become of it.
    pub fn book(&mut self, answer: &Answer, now: u64) {
        if answer.release() > 0 {
            self.good.insert(answer.digest(), now);
        }
        if answer.is_in_use() {
            self.in_use = answer.release();
            self.digest = Some(answer.digest());
            self.took.extend(answer.until_last_node());
        }
    }

    /// Deploys a build with a flaw, and sees it fail for a reason that is told, and what was in use stay.
    ///
    /// # Panics
    /// When it does not.
    pub async fn flawed(&mut self, flaw: Flaw, args: &[&str]) -> Answer {
        let build = flaw.of(self.build());
        let answer = self.console.deploy(&build, args).await;
        self.flawed += 1;
        let is_refused = matches!(answer.outcome(), "failed" | "refused");
        assert!(is_refused, "a build with flaw {flaw:?} did not fail: {answer:#?}");
        assert!(answer.code.is_some_and(|code| code != 0), "{flaw:?}: {answer:#?}");
        assert!(!answer.reason().is_empty(), "{flaw:?}: no reason is told: {answer:#?}");
        let status = self.console.status().await;
        assert_eq!(
            status["release"]["release"], self.in_use,
            "{flaw:?}: what was in use is not any more: {answer:#?} {status:#}"
        );
        answer
    }

    /// Sees to it that the release in use has the component that was last seen to come into use, whatever its number.
    ///
    /// # Panics
    /// When it has another.
    pub async fn assert_in_use(&self) {
        let status = self.console.status().await;
        let digest = short(&status["release"]);
        assert_eq!(
            Some(&digest),
            self.digest.as_ref(),
            "another release is in use: {status:#}"
        );
    }

    /// The number of the release that was last seen to come into use.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Sees to it that every answer of a run came of a build that could give it.
    ///
    /// # Panics
    /// When one did not.
    pub fn assert_answers_of(&self, report: &Report) {
        let named = &report.history.releases;
        assert!(!named.is_empty(), "no answer names a release");
        for (release, answers) in named {
            let asked_for_at = self.good.get(release);
            assert!(
                asked_for_at.is_some_and(|at| *at <= answers.first_at),
                "release {release} answered and may not have: {answers:?}, may: {:?}",
                self.good
            );
        }
    }

    /// In a line, for people.
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

    async fn storm(&mut self, ground: &Ground, rounds: usize) {
        let _shown = ShownOnPanic(ground);
        let end = Instant::now() + ROUND * u32::try_from(rounds).expect("it ends some day");
        let progress = ground.check.progress();
        let (mut warm, mut number) = (Vec::new(), 0);
        while Instant::now() < end || number < LEAST {
            let next = Instant::now() + PAUSE;
            number += 1;
            match number % FLAWED {
                0 => {
                    let flaw = Flaw::FOUND_AT_ONCE[(number / FLAWED) as usize % Flaw::FOUND_AT_ONCE.len()];
                    drop(self.flawed(flaw, &[]).await);
                }
                _ => drop(self.good(progress.now(), &[]).await),
            }
            if number == WARM {
                warm = ground.memory();
            }
            sleep_until(next).await;
        }
        assert_eq!(self.console.agreement(ground.apps.len()).await, self.in_use);
        println!("{}", self.summary());
        for (before, after) in warm.into_iter().zip(ground.memory()) {
            println!(
                "memory of an app-node: {} MB, {} MB at the end",
                before >> 20,
                after >> 20
            );
            let grown = after.saturating_sub(before);
            assert!(
                grown < GROWTH,
                "{} deploys let a process grow by {} MB",
                number - WARM,
                grown >> 20
            );
        }
    }
}

/// Every second a build is deployed over three app-nodes, every fifth of them with a flaw, for ten seconds a round and for
/// twenty deploys at least.
pub(super) async fn swap_storm(plan: Plan) -> Report {
    let lifetime = LIFETIME;
    let plan = Plan { lifetime, ..plan };
    let redis = Redis::new().start().await;
    let ground = Ground::of(cluster(redis.url(), plan, LEASE), plan, 2, 3).await;
    let mut deploys = Deploys::of(&ground).await;
    deploys.storm(&ground, plan.rounds).await;
    let report = ground.finish_undisturbed("swap-storm").await;
    deploys.assert_answers_of(&report);
    report
}

/// The same in one process, whose transport is its own memory.
pub(super) async fn swap_storm_in_memory(plan: Plan) -> Report {
    let ground = Ground::alone(plan).await;
    let mut deploys = Deploys::at(Console::of_node(&ground.apps[0])).await;
    deploys.storm(&ground, plan.rounds).await;
    let report = ground.finish_undisturbed("swap-storm-in-memory").await;
    deploys.assert_answers_of(&report);
    report
}
