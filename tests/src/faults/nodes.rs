//! Faults of nodes: killed, restarted, paused past their lease, started and stopped all the time.

use std::time::Duration;

use super::Plan;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{Redis, RedisServer};

/// Lease of all nodes. No shorter: on a busy machine heartbeats come a second late, and a node that misses its lease closes its clients.
const LEASE: Duration = Duration::from_secs(3);
/// Lease of scenarios in which no message may wait for a lease to end.
const LONG_LEASE: Duration = Duration::from_secs(10);
/// Pause after which a node has lost its lease without knowing it, in milliseconds.
const ZOMBIE: std::ops::Range<u64> = 4_200..4_600;

async fn bed(plan: Plan, lease: Duration, ios: usize, apps: usize) -> (RedisServer, Testbed) {
    let redis = Redis::new().start().await;
    let bed = Testbed::of(cluster(redis.url(), plan, lease), plan, ios, apps).await;
    (redis, bed)
}

/// Kills one or two of three app-nodes at once, and replaces them.
pub(super) async fn app_nodes_killed(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 2, 3).await;
    for round in 0..plan.rounds {
        bed.wait(300..1_000).await;
        let first = bed.random.below(3);
        let victims = if round % 2 == 0 {
            vec![first]
        } else {
            vec![first, (first + 1) % 3]
        };
        for victim in &victims {
            bed.apps[*victim].kill9().await;
        }
        bed.wait(0..4_000).await;
        for victim in victims {
            let next = match bed.random.chance(0.5) {
                // Under the name of the killed node, whose lease may still run.
                true => bed.cluster.start_as("app-node", &format!("app-{}", victim + 1)).await,
                false => bed.cluster.start_app().await,
            };
            bed.replace_app(victim, next).await;
        }
        bed.await_progress().await;
    }
    bed.finish_undisturbed("app-nodes-killed").await
}

/// Pauses an app-node until its partitions have moved; resumed, it tries to commit the events that it had begun.
pub(super) async fn app_node_zombie(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 2, 3).await;
    for _ in 0..plan.rounds {
        bed.wait(300..1_000).await;
        let victim = bed.random.below(3);
        bed.apps[victim].pause();
        bed.wait(ZOMBIE).await;
        bed.await_progress().await;
        bed.apps[victim].resume();
        bed.await_progress().await;
    }
    bed.finish_undisturbed("app-node-zombie").await
}

/// Restarts app-nodes one after the other: no message waits as long as a lease.
pub(super) async fn app_nodes_restarted(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LONG_LEASE, 2, 2).await;
    for round in 0..plan.rounds * 2 {
        bed.wait(300..1_000).await;
        let next = bed.cluster.start_app().await;
        bed.apps[round % 2].terminate();
        let status = bed.apps[round % 2].ended().await;
        assert!(status.success(), "an app-node did not shut down cleanly: {status}");
        bed.replace_app(round % 2, next).await;
        bed.await_progress().await;
    }
    let report = bed.finish_undisturbed("app-nodes-restarted").await;
    assert!(
        report.timing.slowest < LONG_LEASE,
        "a message waited as long as a lease: {report}"
    );
    report
}

/// Starts two app-nodes every second and stops or kills them, beside one that stays.
pub(super) async fn app_nodes_come_and_go(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 2, 1).await;
    for _ in 0..plan.rounds * 3 {
        let (a, b) = tokio::join!(bed.cluster.start_app(), bed.cluster.start_app());
        bed.wait(500..1_000).await;
        for mut node in [a, b] {
            match bed.random.chance(0.5) {
                true => drop(node.stop().await),
                false => node.kill9().await,
            }
        }
    }
    bed.finish_undisturbed("app-nodes-come-and-go").await
}

/// Kills io-nodes; their clients reconnect to the others or to the replacement.
pub(super) async fn io_nodes_killed(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 3, 2).await;
    for _ in 0..plan.rounds {
        bed.wait(300..1_000).await;
        let victim = bed.random.below(3);
        bed.ios[victim].kill9().await;
        bed.wait(0..4_000).await;
        let next = match bed.random.chance(0.5) {
            true => {
                bed.cluster
                    .start_as("io-node", &format!("io-node-{}", victim + 1))
                    .await
            }
            false => bed.cluster.start_io().await,
        };
        bed.replace_io(victim, next).await;
        bed.await_progress().await;
    }
    let report = bed.finish("io-nodes-killed").await;
    assert!(report.reconnects > 0, "no client lost its connection: {report}");
    report
}

/// Pauses an io-node until its clients are declared lost; resumed, it still has their connections.
pub(super) async fn io_node_zombie(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 3, 2).await;
    for _ in 0..plan.rounds {
        bed.wait(300..1_000).await;
        let victim = bed.random.below(3);
        bed.ios[victim].pause();
        bed.wait(ZOMBIE).await;
        bed.await_progress().await;
        bed.ios[victim].resume();
        bed.await_progress().await;
        assert!(bed.ios[victim].is_running(), "the node must rejoin, not end");
    }
    let report = bed.finish("io-node-zombie").await;
    assert!(report.reconnects > 0, "no client lost its connection: {report}");
    report
}

/// Restarts io-nodes: their clients are disconnected cleanly and reconnect elsewhere.
pub(super) async fn io_nodes_restarted(plan: Plan) -> Report {
    let (_redis, mut bed) = bed(plan, LEASE, 2, 2).await;
    for round in 0..plan.rounds {
        bed.wait(300..1_000).await;
        let next = bed.cluster.start_io().await;
        bed.ios[round % 2].terminate();
        let status = bed.ios[round % 2].ended().await;
        assert!(status.success(), "an io-node did not shut down cleanly: {status}");
        bed.replace_io(round % 2, next).await;
        bed.await_progress().await;
    }
    bed.finish("io-nodes-restarted").await
}
