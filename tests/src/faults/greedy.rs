//! Greedy clients: all others are served as before.

use serde_json::json;
use tokio::task::JoinSet;

use super::Plan;
use super::testbed::{Testbed, cluster_of};
use crate::check::Report;
use crate::{Client, Redis};

/// Number of greedy clients; each has as many messages open as it may.
const GREEDY: usize = 20;
/// Most open messages of one client.
const OPEN: usize = 256;
/// Handling time of each of their messages, in milliseconds; handled one after the other, they take minutes.
const SLOW_MS: u64 = 500;

/// A few clients send as many slow messages as they can, in the same partitions as all others.
pub(super) async fn greedy_clients(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let cluster = cluster_of(redis.url(), "instances = 48\ngrants = { keyvalue = [\"default\"] }").transport(&format!(
        "shards = {}\npartitions = {}\nclient-backlog = {OPEN}",
        plan.shards, plan.shards
    ));
    let mut bed = Testbed::of(cluster, plan, 2, 1).await;
    // The greedy clients stay, so that no more instances are busy than there are greedy clients.
    let mut greedy = JoinSet::new();
    for number in 0..GREEDY {
        let mut client = Client::connect(&bed.ios[number % bed.ios.len()]).await;
        greedy.spawn(async move {
            // The io-node stops reading from the connection before the last ones.
            for _ in 0..2 * OPEN {
                client.emit("slow", &[json!(SLOW_MS)]).await;
            }
            std::future::pending::<()>().await;
        });
    }
    for _ in 0..plan.rounds.div_ceil(2) {
        for _ in 0..4 {
            bed.wait(500..1_500).await;
            bed.await_progress().await;
        }
        // New clients are served as well.
        bed.restart_check().await;
        bed.wait(1_000..2_000).await;
        bed.await_progress().await;
    }
    bed.finish_undisturbed("greedy-clients").await
}
