//! A Redis that restarts, dies, sleeps, hands over to its replica, or moves the slots of a cluster.

use std::time::Duration;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Redis, RedisCluster, Sentinels};

/// As it is by default: nodes that come back one after the other after an outage are not taken for cut off.
const LEASE: Duration = Duration::from_secs(3);
/// One node may learn of a new master seconds after another.
const FAILOVER_LEASE: Duration = Duration::from_secs(8);

/// Redis is asked to end, and comes back after a while with all that it had.
pub(super) async fn redis_restarted(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("everysec").start().await;
    let mut ground = Ground::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        ground.wait(500..1_500).await;
        redis.stop().await;
        // Also longer than a lease: when Redis is away, nobody is dead.
        ground.wait(100..2_500).await;
        redis.restart().await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("redis-restarted").await
}

/// Redis is killed, and has on disk all that it ever answered.
pub(super) async fn redis_killed(plan: Plan) -> Report {
    let mut redis = Redis::new().aof("always").start().await;
    let mut ground = Ground::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        ground.wait(500..1_500).await;
        redis.kill().await;
        ground.wait(0..2_000).await;
        redis.restart().await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("redis-killed").await
}

/// Redis answers nobody for a while, and then all at once.
pub(super) async fn redis_paused(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let mut ground = Ground::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    for _ in 0..plan.rounds {
        ground.wait(500..1_500).await;
        redis.pause();
        ground.wait(500..3_000).await;
        redis.resume();
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("redis-paused").await
}

/// One server of a cluster answers nobody, for so long that connections to it are given up. The others do.
pub(super) async fn server_paused(plan: Plan) -> Report {
    let setup = Redis::new().aof("everysec").setting("cluster-require-full-coverage no");
    let redis = RedisCluster::of(setup).await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, LEASE);
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    for round in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        let paused = &redis.servers()[round % redis.servers().len()];
        paused.pause();
        ground.wait(8_000..12_000).await;
        paused.resume();
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("server-paused").await
}

/// A server of a cluster hangs until its replica has taken over, and wakes up after that.
pub(super) async fn server_replaced(plan: Plan) -> Report {
    let redis = RedisCluster::with_replicas(Redis::new().aof("everysec")).await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    let pairs = redis.servers().iter().zip(redis.replicas());
    for (server, replica) in pairs.take(plan.rounds.div_ceil(2)) {
        ground.wait(500..1_500).await;
        server.pause();
        replica.until(&["ROLE"], "master").await;
        ground.wait(0..3_000).await;
        // With one replica to wait for, nothing counts until there is one again.
        server.resume();
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("server-replaced").await
}

/// Sentinels make the replica the master while both are well, as for maintenance.
pub(super) async fn replica_promoted(plan: Plan) -> Report {
    let mut sentinels = Sentinels::start().await;
    let cluster = cluster(sentinels.url(), plan, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        sentinels.promote().await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("replica-promoted").await
}

/// The master is killed, Sentinels promote its replica, and the old one comes back as the replica of the new.
pub(super) async fn master_killed(plan: Plan) -> Report {
    let mut sentinels = Sentinels::start().await;
    let cluster = cluster(sentinels.url(), plan, FAILOVER_LEASE).transport("wait-replicas = 1");
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        sentinels.kill_master().await;
        sentinels.await_promotion().await;
        ground.wait(0..1_000).await;
        // With one replica to wait for, nothing counts until there is one again.
        sentinels.restart_old_master().await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("master-killed").await
}

/// The slots of all shards move from server to server.
pub(super) async fn slots_moved(plan: Plan) -> Report {
    let redis = RedisCluster::start().await;
    let shards = plan.shards.max(3);
    let cluster = cluster(redis.url(), Plan { shards, ..plan }, LEASE);
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        redis.move_slots_of_prefix("plugnode", shards).await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("slots-moved").await
}
