//! Clients that take more than their share: all others are served as before.

use serde_json::json;
use tokio::task::JoinSet;

use super::Plan;
use super::ground::{Ground, cluster_of};
use crate::check::Report;
use crate::{Client, Redis};

/// Greedy clients; each has as many messages open as it may.
const GREEDY: usize = 20;
/// As many as one client may have open.
const OPEN: usize = 256;
/// How long each of their messages takes, in milliseconds: one after the other, they take minutes.
const SLOW_MS: u64 = 500;

/// A few clients send as many slow messages as they can, in the partitions of all others.
pub(super) async fn greedy_clients(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let cluster = cluster_of(redis.url(), "instances = 48\ngrants = { keyvalue = [\"default\"] }").transport(&format!(
        "shards = {}\npartitions = {}\nclient-backlog = {OPEN}",
        plan.shards, plan.shards
    ));
    let mut ground = Ground::of(cluster, plan, 2, 1).await;
    // Always the same ones, so that no more instances are busy than there are greedy clients.
    let mut greedy = JoinSet::new();
    for number in 0..GREEDY {
        let mut client = Client::connect(&ground.ios[number % ground.ios.len()]).await;
        greedy.spawn(async move {
            // The last ones are read no more from its connection.
            for _ in 0..2 * OPEN {
                client.emit("slow", &[json!(SLOW_MS)]).await;
            }
            std::future::pending::<()>().await;
        });
    }
    for _ in 0..plan.rounds.div_ceil(2) {
        for _ in 0..4 {
            ground.wait(500..1_500).await;
            ground.work_goes_on().await;
        }
        // Newcomers are served as well.
        ground.start_anew().await;
        ground.wait(1_000..2_000).await;
        ground.work_goes_on().await;
    }
    ground.finish_undisturbed("greedy-clients").await
}
