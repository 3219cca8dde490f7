//! Disturbed rollouts: by another deploy, a rollback, or a node or Redis that is killed or paused.
//!
//! Each ends with one outcome on which all nodes agree soon afterwards, without dropping a connection.

use std::ops::Range;
use std::time::Duration;

use tokio::time::sleep;

use super::Plan;
use super::deployer::Deployer;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{CommandResult, Console, Flaw, Redis, RedisServer};

/// Lease; nodes compile here, which keeps the machine busy.
const LEASE: Duration = Duration::from_secs(2);
/// Lease of scenarios in which no node may lose it.
const LONG_LEASE: Duration = Duration::from_secs(10);
/// Pause after which a node has lost its lease without knowing it, in milliseconds.
const ZOMBIE: Range<u64> = 3_000..3_500;
/// Time after a deploy at which its rollout is in progress, in milliseconds.
const BEGINNING: Range<u64> = 0..800;

struct RolloutBed {
    bed: Testbed,
    deployer: Deployer,
    /// A second operator.
    other: Console,
}

impl RolloutBed {
    async fn over(redis: &RedisServer, plan: Plan, lease: Duration) -> Self {
        let bed = Testbed::of(cluster(redis.url(), plan, lease), plan, 2, 3).await;
        Self {
            deployer: Deployer::of(&bed).await,
            other: Console::of(&bed.cluster.config("app-node")),
            bed,
        }
    }

    fn now(&self) -> u64 {
        self.bed.check.progress().now()
    }

    fn beginning(&mut self) -> Duration {
        let most = (BEGINNING.end - BEGINNING.start) as usize;
        Duration::from_millis(BEGINNING.start + self.bed.random.below(most) as u64)
    }

    /// Asserts that a good build came into use, and records it.
    fn record_success(&mut self, answer: &CommandResult, now: u64) {
        assert_eq!(
            (answer.is_in_use(), answer.code),
            (true, Some(0)),
            "{answer:#?}\n{}",
            self.bed.logs()
        );
        self.deployer.record(answer, now);
    }

    /// Asserts that all nodes use the release that was reported to be in use.
    async fn assert_agreement(&self, what: &str) {
        let assert_agreement = self.other.agreement(self.bed.apps.len()).await;
        assert_eq!(
            assert_agreement,
            self.deployer.in_use(),
            "{what}: another release is in use than was reported"
        );
        self.bed.await_progress().await;
    }

    async fn finish(self, name: &str) -> Report {
        let report = self.bed.finish_undisturbed(name).await;
        println!("{}", self.deployer.summary());
        self.deployer.assert_answers_allowed(&report);
        report
    }
}

/// Deploys two builds at the same time: the later one comes into use, and both commands report it.
pub(super) async fn deploys_at_once(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LONG_LEASE).await;
    for _ in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        let (one, two) = (rollout.deployer.build(), rollout.deployer.build());
        let apart = rollout.beginning();
        let now = rollout.now();
        let (one, two) = tokio::join!(rollout.other.deploy(&one, &[]), async {
            sleep(apart).await;
            rollout.deployer.console.deploy(&two, &[]).await
        });
        let (first, second) = if one.release() < two.release() {
            (one, two)
        } else {
            (two, one)
        };
        assert!(
            second.is_in_use(),
            "the later deploy is not in use: {first:#?} {second:#?}"
        );
        let is_reported = first.is_in_use() || matches!(first.outcome(), "superseded" | "replaced");
        assert!(
            is_reported,
            "the earlier deploy was neither in use nor superseded: {first:#?} {second:#?}"
        );
        rollout.deployer.record(&first, now);
        rollout.deployer.record(&second, now);
        rollout.assert_agreement("two deploys at once").await;
    }
    rollout.finish("deploys-at-once").await
}

/// Kills an app-node during a rollout, and replaces it.
pub(super) async fn app_nodes_killed(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LEASE).await;
    for round in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        let (build, now, after) = (rollout.deployer.build(), rollout.now(), rollout.beginning());
        let victim = rollout.bed.random.below(3);
        let (console, bed) = (&rollout.deployer.console, &mut rollout.bed);
        let disturb = async {
            sleep(after).await;
            bed.apps[victim].kill9().await;
            let next = match round % 2 {
                0 => bed.cluster.start_app().await,
                // Under the name of the killed node, whose lease may still run.
                _ => bed.cluster.start_as("app-node", &format!("app-{}", victim + 1)).await,
            };
            bed.replace_app(victim, next).await;
        };
        let (answer, ()) = tokio::join!(console.deploy(&build, &[]), disturb);
        rollout.record_success(&answer, now);
        rollout.assert_agreement("an app-node was killed").await;
    }
    rollout.finish("deploys-while-app-nodes-die").await
}

/// Pauses an app-node past its lease during a rollout, and resumes it.
pub(super) async fn app_nodes_paused(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LEASE).await;
    for _ in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        let (build, now, after) = (rollout.deployer.build(), rollout.now(), rollout.beginning());
        let victim = rollout.bed.random.below(3);
        let (console, bed) = (&rollout.deployer.console, &mut rollout.bed);
        let disturb = async {
            sleep(after).await;
            bed.apps[victim].pause();
            bed.wait(ZOMBIE).await;
            bed.apps[victim].resume();
        };
        let (answer, ()) = tokio::join!(console.deploy(&build, &[]), disturb);
        rollout.record_success(&answer, now);
        rollout.assert_agreement("an app-node was paused").await;
        assert!(rollout.bed.apps[victim].is_running(), "the node must rejoin, not end");
    }
    rollout.finish("deploys-while-app-nodes-sleep").await
}

/// Kills Redis, which syncs every write to disk, during a rollout.
pub(super) async fn redis_killed(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("always").start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LONG_LEASE).await;
    for _ in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        let (build, now, after) = (rollout.deployer.build(), rollout.now(), rollout.beginning());
        let disturb = async {
            sleep(after).await;
            redis.kill().await;
            rollout.bed.wait(0..2_000).await;
            redis.restart().await;
        };
        let (answer, ()) = tokio::join!(rollout.deployer.console.deploy(&build, &[]), disturb);
        rollout.record_success(&answer, now);
        rollout.assert_agreement("Redis was killed").await;
    }
    rollout.finish("deploys-while-redis-dies").await
}

/// Ends a long canary by a rollback.
pub(super) async fn rolled_back(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LONG_LEASE).await;
    // A second release, which must not be mistaken for the one to stay in use.
    let now = rollout.now();
    rollout.deployer.deploy_good(now, &[]).await;
    for _ in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        let (build, now) = (rollout.deployer.build(), rollout.now());
        let moment = rollout.beginning();
        let rollback = async {
            rollout.other.phase("canary").await;
            sleep(moment).await;
            rollout.other.rollback(&[]).await
        };
        let deploy = rollout
            .deployer
            .console
            .deploy(&build, &["--canary", "50%", "--for", "10m"]);
        let (answer, rollback) = tokio::join!(deploy, rollback);
        assert_eq!((answer.outcome(), answer.code), ("cancelled", Some(1)), "{answer:#?}");
        assert_eq!(
            (rollback.outcome(), rollback.code),
            ("rollout-ended", Some(0)),
            "{rollback:#?}"
        );
        rollout.deployer.record(&answer, now);
        rollout.assert_agreement("it was rolled back").await;
    }
    rollout.finish("rollbacks-in-rollouts").await
}

/// Deploys a build that fails only after some events as a canary: it is rolled back automatically.
pub(super) async fn canaries_fail(plan: Plan) -> Report {
    // Only the build's own failures may count.
    let plan = Plan { trouble: 0.0, ..plan };
    let redis = Redis::new().start().await;
    let mut rollout = RolloutBed::over(&redis, plan, LONG_LEASE).await;
    for round in 0..plan.rounds {
        rollout.bed.wait(300..1_000).await;
        if round % 2 == 1 {
            // A good canary is promoted: not every canary fails.
            let now = rollout.now();
            rollout
                .deployer
                .deploy_good(now, &["--canary", "30%", "--for", "3s", "--p99-margin", "1000%"])
                .await;
        }
        let (build, now) = (Flaw::Later.of(rollout.deployer.build()), rollout.now());
        let deploy = rollout
            .deployer
            .console
            .deploy(&build, &["--canary", "30%", "--for", "5m"]);
        let answer = deploy.await;
        assert_eq!((answer.outcome(), answer.code), ("failed", Some(1)), "{answer:#?}");
        assert!(
            answer.reason().contains("events failed"),
            "the reason compares the releases: {answer:#?}"
        );
        // It answered until it failed.
        rollout.deployer.record(&answer, now);
        rollout.assert_agreement("the canary failed").await;
    }
    rollout.finish("canaries-of-flawed-builds").await
}
