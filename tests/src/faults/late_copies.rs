//! Late copies of calls: held up on an abandoned connection to Redis, and delivered after the node has repeated them on a new one.

use std::time::Duration;

use super::Plan;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{Proxy, Redis};

/// Stall after which a call is abandoned and repeated on another connection, in milliseconds.
const GIVEN_UP: std::ops::Range<u64> = 3_000..4_500;

/// The connections of all nodes stall repeatedly. Their content is delivered after the nodes have gone on by new connections, also
/// after a lease has expired.
pub(super) async fn late_copies(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let link = Proxy::to(redis.address()).await;
    // Either shorter or longer than a stall.
    let lease = Duration::from_secs(if plan.seed.is_multiple_of(2) { 1 } else { 6 });
    let cluster = cluster(link.url(&redis), plan, lease);
    let mut bed = Testbed::of(cluster, plan, 2, 2).await;
    for _ in 0..plan.rounds {
        let copies = 1 + bed.random.below(2);
        for _ in 0..copies {
            bed.wait(200..800).await;
            link.stall();
            bed.wait(GIVEN_UP).await;
        }
        bed.await_progress().await;
        for _ in 0..copies {
            link.deliver_oldest();
            bed.wait(0..500).await;
        }
        bed.await_progress().await;
    }
    bed.finish("late-copies").await
}
