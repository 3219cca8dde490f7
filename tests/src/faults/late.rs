//! Copies of calls that reach Redis late: held up on a connection that its owner gave up, and delivered after it has gone on by
//! another one.

use std::time::Duration;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Proxy, Redis};

/// Long enough that a call is given up and made again by another connection.
const GIVEN_UP: std::ops::Range<u64> = 3_000..4_500;

/// Connections of all nodes stall again and again. What is on them comes later: when all have gone on, also when some were
/// taken for dead meanwhile.
pub(super) async fn late_copies(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let link = Proxy::to(redis.address()).await;
    // Stalled for longer or shorter than a lease.
    let lease = Duration::from_secs(if plan.seed.is_multiple_of(2) { 1 } else { 6 });
    let cluster = cluster(link.url(&redis), plan, lease);
    let mut ground = Ground::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds {
        let copies = 1 + ground.random.below(2);
        for _ in 0..copies {
            ground.wait(200..800).await;
            link.stall();
            ground.wait(GIVEN_UP).await;
        }
        ground.work_goes_on().await;
        for _ in 0..copies {
            link.deliver_oldest();
            ground.wait(0..500).await;
        }
        ground.work_goes_on().await;
    }
    ground.finish("late-copies").await
}
