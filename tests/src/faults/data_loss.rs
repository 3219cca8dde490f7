//! Redis comes back empty. Accepted events are lost; the cluster recovers by itself: affected clients are disconnected and reconnect, and
//! the release in use stays.
//!
//! After each loss a new check with new clients starts, which must observe nothing wrong.

use std::time::Duration;

use super::Plan;
use super::deployer::Deployer;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{Redis, RedisServer};

/// Long enough that a busy machine does not make a node lose its lease.
const LEASE: Duration = Duration::from_secs(3);

/// FLUSHALL under running nodes.
pub(super) async fn redis_flushed(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let (mut bed, deploys) = bed(&redis, plan).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        redis.command(&["FLUSHALL"]).await;
        assert_recovered(&mut bed, &deploys).await;
    }
    bed.finish("redis-flushed").await
}

/// Redis is killed and restarts empty.
pub(super) async fn redis_restarted_without_aof(plan: Plan) -> Report {
    let mut redis = Redis::new().start().await;
    let (mut bed, deploys) = bed(&redis, plan).await;
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.wait(500..1_500).await;
        redis.kill().await;
        bed.wait(0..2_500).await;
        redis.restart().await;
        assert_recovered(&mut bed, &deploys).await;
    }
    bed.finish("redis-restarted-without-aof").await
}

/// A cluster whose release in use is not the file in its configuration.
async fn bed(redis: &RedisServer, plan: Plan) -> (Testbed, Deployer) {
    let bed = Testbed::of(cluster(redis.url(), plan, LEASE), plan, 2, 2).await;
    let mut deployer = Deployer::of(&bed).await;
    deployer.deploy_good(bed.check.progress().now(), &[]).await;
    (bed, deployer)
}

/// Asserts that old and new clients are served by the release that was in use before, also by a node that starts now.
async fn assert_recovered(bed: &mut Testbed, deployer: &Deployer) {
    bed.await_progress().await;
    bed.restart_check().await;
    bed.await_progress().await;
    let next = bed.cluster.start_app().await;
    bed.apps[1].kill9().await;
    bed.replace_app(1, next).await;
    bed.await_progress().await;
    deployer.assert_in_use().await;
    bed.wait(1_000..2_000).await;
}
