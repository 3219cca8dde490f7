//! Faults of Redis: restarted, killed, paused, failing over, or migrating cluster slots.

use std::time::Duration;

use super::Plan;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{Redis, RedisCluster, Sentinels};

/// The default: nodes that reconnect one after the other after an outage keep their leases.
const LEASE: Duration = Duration::from_secs(3);
/// Longer, because nodes may learn of a new master seconds apart.
const FAILOVER_LEASE: Duration = Duration::from_secs(8);

/// Stops Redis and restarts it with its data.
pub(super) async fn redis_restarted(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("everysec").start().await;
    let mut bed = Testbed::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        bed.wait(500..1_500).await;
        redis.stop().await;
        // Also longer than a lease: no node is declared lost while Redis is down.
        bed.wait(100..2_500).await;
        redis.restart().await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("redis-restarted").await
}

/// Kills Redis, which syncs every write to disk, and restarts it.
pub(super) async fn redis_killed(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("always").start().await;
    let mut bed = Testbed::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        bed.wait(500..1_500).await;
        redis.kill().await;
        bed.wait(0..2_000).await;
        redis.restart().await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("redis-killed").await
}

/// Pauses Redis, and resumes it.
pub(super) async fn redis_paused(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut bed = Testbed::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        bed.wait(500..1_500).await;
        redis.pause();
        bed.wait(500..3_000).await;
        redis.resume();
        bed.await_progress().await;
    }
    bed.finish_undisturbed("redis-paused").await
}

/// Pauses one server of a cluster until connections to it are abandoned; the others answer.
pub(super) async fn server_paused(plan: Plan) -> Report {
    let setup = Redis::new().aof("everysec").setting("cluster-require-full-coverage no");
    let redis = RedisCluster::of(setup).await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, LEASE);
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    for round in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        let paused = &redis.servers()[round % redis.servers().len()];
        paused.pause();
        bed.wait(8_000..12_000).await;
        paused.resume();
        bed.await_progress().await;
    }
    bed.finish_undisturbed("server-paused").await
}

/// Pauses a server of a cluster until its replica has taken over, and resumes it.
pub(super) async fn server_replaced(plan: Plan) -> Report {
    let redis = RedisCluster::with_replicas(Redis::new().aof("everysec")).await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    let pairs = redis.servers().iter().zip(redis.replicas());
    for (server, replica) in pairs.take(plan.rounds.div_ceil(2)) {
        bed.wait(500..1_500).await;
        server.pause();
        replica.until(&["ROLE"], "master").await;
        bed.wait(0..3_000).await;
        // With `wait-replicas = 1`, no write completes until there is a replica again.
        server.resume();
        bed.await_progress().await;
    }
    bed.finish_undisturbed("server-replaced").await
}

/// Fails over to the replica while both servers are healthy, as for maintenance.
pub(super) async fn replica_promoted(plan: Plan) -> Report {
    let mut sentinels = Sentinels::start().await;
    let cluster = cluster(sentinels.url(), plan, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        sentinels.promote().await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("replica-promoted").await
}

/// Kills the master; Sentinels promote its replica, and the old master returns as a replica.
pub(super) async fn master_killed(plan: Plan) -> Report {
    let mut sentinels = Sentinels::start().await;
    let cluster = cluster(sentinels.url(), plan, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        sentinels.kill_master().await;
        sentinels.await_promotion().await;
        bed.wait(0..1_000).await;
        // With `wait-replicas = 1`, no write completes until there is a replica again.
        sentinels.restart_old_master().await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("master-killed").await
}

/// Moves the slots of all shards from server to server.
pub(super) async fn slots_moved(plan: Plan) -> Report {
    let redis = RedisCluster::start().await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, LEASE);
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        redis.move_slots_of_prefix("plugnode", shards).await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("slots-moved").await
}
