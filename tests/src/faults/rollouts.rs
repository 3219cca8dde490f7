//! Rollouts that something comes in the way of: another deploy, a rollback, a process that dies or sleeps, a Redis that does.
//!
//! Each has to come to one outcome, which every node has taken up soon afterwards, and no client may notice.

use std::ops::Range;
use std::time::Duration;

use tokio::time::sleep;

use super::Plan;
use super::deploys::Deploys;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Answer, Console, Flaw, Redis, RedisServer};

/// How long a node that is not heard of keeps what it holds. Nodes compile here, which takes a busy machine's time.
const LEASE: Duration = Duration::from_secs(2);
/// The same where nobody is to be taken for dead.
const LONG_LEASE: Duration = Duration::from_secs(10);
/// Long enough to be taken for dead, and to wake up as one who does not know.
const ZOMBIE: Range<u64> = 3_000..3_500;
/// Within this a rollout is on its way.
const BEGINNING: Range<u64> = 0..800;

struct Stage {
    ground: Ground,
    deploys: Deploys,
    /// Another who deploys.
    other: Console,
}

impl Stage {
    async fn over(redis: &RedisServer, plan: Plan, lease: Duration) -> Self {
        let ground = Ground::of(cluster(redis.url(), plan, lease), plan, 2, 3).await;
        Self {
            deploys: Deploys::of(&ground).await,
            other: Console::of(&ground.cluster.config("app-node")),
            ground,
        }
    }

    fn now(&self) -> u64 {
        self.ground.check.progress().now()
    }

    fn beginning(&mut self) -> Duration {
        let most = (BEGINNING.end - BEGINNING.start) as usize;
        Duration::from_millis(BEGINNING.start + self.ground.random.below(most) as u64)
    }

    /// A good build is in use in spite of all.
    fn taken_up(&mut self, answer: &Answer, now: u64) {
        assert_eq!(
            (answer.is_in_use(), answer.code),
            (true, Some(0)),
            "{answer:#?}\n{}",
            self.ground.logs()
        );
        self.deploys.book(answer, now);
    }

    /// The nodes are of one mind, and it is the outcome that was told.
    async fn agreed(&self, what: &str) {
        let agreed = self.other.agreement(self.ground.apps.len()).await;
        assert_eq!(
            agreed,
            self.deploys.in_use(),
            "{what}: another release is in use than was told"
        );
        self.ground.work_goes_on().await;
    }

    async fn finish(self, name: &str) -> Report {
        let report = self.ground.finish_undisturbed(name).await;
        println!("{}", self.deploys.summary());
        self.deploys.assert_answers_of(&report);
        report
    }
}

/// Two deploy different builds at the same time: the later one is in use, and both know.
pub(super) async fn deploys_at_once(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut stage = Stage::over(&redis, plan, LONG_LEASE).await;
    for _ in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        let (one, two) = (stage.deploys.build(), stage.deploys.build());
        let apart = stage.beginning();
        let now = stage.now();
        let (one, two) = tokio::join!(stage.other.deploy(&one, &[]), async {
            sleep(apart).await;
            stage.deploys.console.deploy(&two, &[]).await
        });
        let (first, second) = if one.release() < two.release() {
            (one, two)
        } else {
            (two, one)
        };
        assert!(second.is_in_use(), "nobody came after it: {first:#?} {second:#?}");
        let is_told = first.is_in_use() || matches!(first.outcome(), "superseded" | "replaced");
        assert!(
            is_told,
            "another came after it, or it was first: {first:#?} {second:#?}"
        );
        stage.deploys.book(&first, now);
        stage.deploys.book(&second, now);
        stage.agreed("two deploys at once").await;
    }
    stage.finish("deploys-at-once").await
}

/// An app-node is killed in the middle of a rollout, and another takes its place.
pub(super) async fn app_nodes_killed(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut stage = Stage::over(&redis, plan, LEASE).await;
    for round in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        let (build, now, after) = (stage.deploys.build(), stage.now(), stage.beginning());
        let victim = stage.ground.random.below(3);
        let (console, ground) = (&stage.deploys.console, &mut stage.ground);
        let disturb = async {
            sleep(after).await;
            ground.apps[victim].kill9().await;
            let next = match round % 2 {
                0 => ground.cluster.start_app().await,
                // Under the name of the dead, whose lease may still run.
                _ => {
                    ground
                        .cluster
                        .start_as("app-node", &format!("app-{}", victim + 1))
                        .await
                }
            };
            ground.replace_app(victim, next);
        };
        let (answer, ()) = tokio::join!(console.deploy(&build, &[]), disturb);
        stage.taken_up(&answer, now);
        stage.agreed("an app-node was killed").await;
    }
    stage.finish("deploys-while-app-nodes-die").await
}

/// An app-node sleeps past its lease in the middle of a rollout, and wakes up in a cluster that went on.
pub(super) async fn app_nodes_paused(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut stage = Stage::over(&redis, plan, LEASE).await;
    for _ in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        let (build, now, after) = (stage.deploys.build(), stage.now(), stage.beginning());
        let victim = stage.ground.random.below(3);
        let (console, ground) = (&stage.deploys.console, &mut stage.ground);
        let disturb = async {
            sleep(after).await;
            ground.apps[victim].pause();
            ground.wait(ZOMBIE).await;
            ground.apps[victim].resume();
        };
        let (answer, ()) = tokio::join!(console.deploy(&build, &[]), disturb);
        stage.taken_up(&answer, now);
        stage.agreed("an app-node slept").await;
        assert!(
            stage.ground.apps[victim].is_running(),
            "it joins anew, and does not end"
        );
    }
    stage.finish("deploys-while-app-nodes-sleep").await
}

/// Redis is killed in the middle of a rollout, and has on disk all that it ever answered.
pub(super) async fn redis_killed(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("always").start().await;
    let mut stage = Stage::over(&redis, plan, LONG_LEASE).await;
    for _ in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        let (build, now, after) = (stage.deploys.build(), stage.now(), stage.beginning());
        let disturb = async {
            sleep(after).await;
            redis.kill().await;
            stage.ground.wait(0..2_000).await;
            redis.restart().await;
        };
        let (answer, ()) = tokio::join!(stage.deploys.console.deploy(&build, &[]), disturb);
        stage.taken_up(&answer, now);
        stage.agreed("Redis was killed").await;
    }
    stage.finish("deploys-while-redis-dies").await
}

/// A rollout that takes its time is ended by a rollback.
pub(super) async fn rolled_back(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut stage = Stage::over(&redis, plan, LONG_LEASE).await;
    // Something to be confused with what is to stay in use.
    let now = stage.now();
    stage.deploys.good(now, &[]).await;
    for _ in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        let (build, now) = (stage.deploys.build(), stage.now());
        let moment = stage.beginning();
        let rollback = async {
            stage.other.phase("canary").await;
            sleep(moment).await;
            stage.other.rollback(&[]).await
        };
        let deploy = stage
            .deploys
            .console
            .deploy(&build, &["--canary", "50%", "--for", "10m"]);
        let (answer, rollback) = tokio::join!(deploy, rollback);
        assert_eq!((answer.outcome(), answer.code), ("cancelled", Some(1)), "{answer:#?}");
        assert_eq!(
            (rollback.outcome(), rollback.code),
            ("rollout-ended", Some(0)),
            "{rollback:#?}"
        );
        stage.deploys.book(&answer, now);
        stage.agreed("it was rolled back").await;
    }
    stage.finish("rollbacks-in-rollouts").await
}

/// A build that fails only after a while is found out as a canary, and taken back by itself.
pub(super) async fn canaries_fail(plan: Plan) -> Report {
    // What fails by itself is all that is to fail.
    let plan = Plan { trouble: 0.0, ..plan };
    let redis = Redis::new().start().await;
    let mut stage = Stage::over(&redis, plan, LONG_LEASE).await;
    for round in 0..plan.rounds {
        stage.ground.wait(300..1_000).await;
        if round % 2 == 1 {
            // A good one comes through, so that it is not the canary that fails.
            let now = stage.now();
            stage
                .deploys
                .good(now, &["--canary", "30%", "--for", "3s", "--p99-margin", "1000%"])
                .await;
        }
        let (build, now) = (Flaw::Later.of(stage.deploys.build()), stage.now());
        let deploy = stage
            .deploys
            .console
            .deploy(&build, &["--canary", "30%", "--for", "5m"]);
        let answer = deploy.await;
        assert_eq!((answer.outcome(), answer.code), ("failed", Some(1)), "{answer:#?}");
        assert!(
            answer.reason().contains("events failed"),
            "it says how it compares: {answer:#?}"
        );
        // As long as it did not fail it answered.
        stage.deploys.book(&answer, now);
        stage.agreed("the canary failed").await;
    }
    stage.finish("canaries-of-flawed-builds").await
}
