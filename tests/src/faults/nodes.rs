//! Processes that are killed, stopped, paused until they are taken for dead, or come and go.

use std::time::Duration;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Redis, RedisServer};

/// Lease of all nodes. No shorter: on a busy machine heartbeats come a second late, and a node that misses its lease closes its clients.
const LEASE: Duration = Duration::from_secs(3);
/// Lease where nobody may have to wait for its end.
const LONG_LEASE: Duration = Duration::from_secs(10);
/// Pause after which a node was declared dead and does not know it yet, in milliseconds.
const ZOMBIE: std::ops::Range<u64> = 4_200..4_600;

async fn ground(plan: Plan, lease: Duration, ios: usize, apps: usize) -> (RedisServer, Ground) {
    let redis = Redis::new().start().await;
    let ground = Ground::of(cluster(redis.url(), plan, lease), plan, ios, apps).await;
    (redis, ground)
}

/// App-nodes are killed, one or two of three at once, and others take their place.
pub(super) async fn app_nodes_killed(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 2, 3).await;
    for round in 0..plan.rounds {
        ground.wait(300..1_000).await;
        let first = ground.random.below(3);
        let victims = if round % 2 == 0 {
            vec![first]
        } else {
            vec![first, (first + 1) % 3]
        };
        for victim in &victims {
            ground.apps[*victim].kill9().await;
        }
        ground.wait(0..4_000).await;
        for victim in victims {
            let next = match ground.random.chance(0.5) {
                // Under the name of the dead, whose lease may still run.
                true => {
                    ground
                        .cluster
                        .start_as("app-node", &format!("app-{}", victim + 1))
                        .await
                }
                false => ground.cluster.start_app().await,
            };
            ground.replace_app(victim, next);
        }
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("app-nodes-killed").await
}

/// An app-node sleeps until its partitions are with others, and then goes on with what it had in hand.
pub(super) async fn app_node_zombie(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 2, 3).await;
    for _ in 0..plan.rounds {
        ground.wait(300..1_000).await;
        let victim = ground.random.below(3);
        ground.apps[victim].pause();
        ground.wait(ZOMBIE).await;
        ground.work_goes_on().await;
        ground.apps[victim].resume();
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("app-node-zombie").await
}

/// App-nodes are asked to end, one after the other, and others are started: nobody waits as long as a lease.
pub(super) async fn app_nodes_restarted(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LONG_LEASE, 2, 2).await;
    for round in 0..plan.rounds * 2 {
        ground.wait(300..1_000).await;
        let next = ground.cluster.start_app().await;
        ground.apps[round % 2].terminate();
        let status = ground.apps[round % 2].ended().await;
        assert!(status.success(), "an app-node that is asked to end: {status}");
        ground.replace_app(round % 2, next);
        ground.work_goes_on().await;
    }
    let report = ground.finish_undisturbed("app-nodes-restarted").await;
    assert!(
        report.timing.slowest < LONG_LEASE,
        "somebody waited as long as a lease: {report}"
    );
    report
}

/// Two app-nodes are started and stopped every second, by word or by force, beside one that stays.
pub(super) async fn app_nodes_come_and_go(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 2, 1).await;
    for _ in 0..plan.rounds * 3 {
        let (a, b) = tokio::join!(ground.cluster.start_app(), ground.cluster.start_app());
        ground.wait(500..1_000).await;
        for mut node in [a, b] {
            match ground.random.chance(0.5) {
                true => drop(node.stop().await),
                false => node.kill9().await,
            }
        }
    }
    ground.finish_undisturbed("app-nodes-come-and-go").await
}

/// Io-nodes are killed; the clients of each go to the others, and some of them to the one that comes in its place.
pub(super) async fn io_nodes_killed(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 3, 2).await;
    for _ in 0..plan.rounds {
        ground.wait(300..1_000).await;
        let victim = ground.random.below(3);
        ground.ios[victim].kill9().await;
        ground.wait(0..4_000).await;
        let next = match ground.random.chance(0.5) {
            true => {
                ground
                    .cluster
                    .start_as("io-node", &format!("io-node-{}", victim + 1))
                    .await
            }
            false => ground.cluster.start_io().await,
        };
        ground.replace_io(victim, next);
        ground.work_goes_on().await;
    }
    let report = ground.finish("io-nodes-killed").await;
    assert!(report.reconnects > 0, "nobody was there to be lost: {report}");
    report
}

/// An io-node sleeps until its clients are taken for lost, and wakes up with all of their connections.
pub(super) async fn io_node_zombie(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 3, 2).await;
    for _ in 0..plan.rounds {
        ground.wait(300..1_000).await;
        let victim = ground.random.below(3);
        ground.ios[victim].pause();
        ground.wait(ZOMBIE).await;
        ground.work_goes_on().await;
        ground.ios[victim].resume();
        ground.work_goes_on().await;
        assert!(ground.ios[victim].is_running(), "it joins anew, and does not end");
    }
    let report = ground.finish("io-node-zombie").await;
    assert!(report.reconnects > 0, "nobody was there to be lost: {report}");
    report
}

/// Io-nodes are asked to end: their clients are disconnected in order, and find another.
pub(super) async fn io_nodes_restarted(plan: Plan) -> Report {
    let (_redis, mut ground) = ground(plan, LEASE, 2, 2).await;
    for round in 0..plan.rounds {
        ground.wait(300..1_000).await;
        let next = ground.cluster.start_io().await;
        ground.ios[round % 2].terminate();
        let status = ground.ios[round % 2].ended().await;
        assert!(status.success(), "an io-node that is asked to end: {status}");
        ground.replace_io(round % 2, next);
        ground.work_goes_on().await;
    }
    ground.finish("io-nodes-restarted").await
}
