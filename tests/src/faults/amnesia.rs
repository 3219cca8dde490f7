//! A Redis that comes back empty. What was accepted is lost, and all else goes on by itself: clients that
//! are affected are disconnected and come back, and the release in use stays what it is.
//!
//! Each time the account begins anew with new clients, who must not notice anything.

use std::time::Duration;

use super::Plan;
use super::deploys::Deploys;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Redis, RedisServer};

/// Long enough that nobody is taken for dead on a busy machine.
const LEASE: Duration = Duration::from_secs(3);

/// All keys are deleted under running nodes.
pub(super) async fn redis_flushed(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let (mut ground, deploys) = ground(&redis, plan).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        redis.command(&["FLUSHALL"]).await;
        goes_on(&mut ground, &deploys).await;
    }
    ground.finish("redis-flushed").await
}

/// Redis is killed, and comes back with nothing.
pub(super) async fn redis_restarted_without_aof(plan: Plan) -> Report {
    let mut redis = Redis::new().start().await;
    let (mut ground, deploys) = ground(&redis, plan).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        ground.wait(500..1_500).await;
        redis.kill().await;
        ground.wait(0..2_500).await;
        redis.restart().await;
        goes_on(&mut ground, &deploys).await;
    }
    ground.finish("redis-restarted-without-aof").await
}

/// A cluster whose release in use is not the file in its configuration.
async fn ground(redis: &RedisServer, plan: Plan) -> (Ground, Deploys) {
    let ground = Ground::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    let mut deploys = Deploys::of(&ground).await;
    deploys.good(ground.check.progress().now(), &[]).await;
    (ground, deploys)
}

/// Old and new clients are served, by the release that was in use before, also by a node that starts now.
async fn goes_on(ground: &mut Ground, deploys: &Deploys) {
    ground.work_goes_on().await;
    ground.start_anew().await;
    ground.work_goes_on().await;
    let next = ground.cluster.start_app().await;
    ground.apps[1].kill9().await;
    ground.replace_app(1, next);
    ground.work_goes_on().await;
    deploys.assert_in_use().await;
    ground.wait(1_000..2_000).await;
}
