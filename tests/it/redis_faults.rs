//! Every fault scenario, with the history checker: nothing is lost, doubled or reordered, and each client has one disconnect.
//!
//! A scenario runs a dozen processes with short leases, so `.ci/test` runs them one at a time.

use std::time::Duration;

use plugnode_tests::check::{Check, Report, Settings};
use plugnode_tests::faults::{Plan, Scenario};
use plugnode_tests::{Cluster, Node, Redis, component};

async fn run(name: &str, shards: u16) {
    let plan = Plan {
        shards,
        ..Default::default()
    };
    let report = Scenario::named(name).run(plan).await;
    report.assert_clean();
    assert!(
        report.verdict.counts.acked > 200,
        "too few messages for a verdict: {report}"
    );
}

macro_rules! scenarios {
    ($($test:ident: $name:literal in $shards:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                run($name, $shards).await;
            }
        )*
    };
}

scenarios! {
    survives_killed_app_nodes: "app-nodes-killed" in 1;
    fences_app_node_resumed_after_its_lease: "app-node-zombie" in 1;
    survives_rolling_restart_of_app_nodes: "app-nodes-restarted" in 1;
    survives_app_node_churn: "app-nodes-come-and-go" in 3;
    survives_killed_io_nodes: "io-nodes-killed" in 1;
    fences_io_node_resumed_after_its_lease: "io-node-zombie" in 1;
    survives_rolling_restart_of_io_nodes: "io-nodes-restarted" in 1;
    survives_redis_restart: "redis-restarted" in 1;
    survives_killed_redis_with_aof: "redis-killed" in 3;
    survives_paused_redis: "redis-paused" in 1;
    survives_paused_cluster_server: "server-paused" in 3;
    survives_cluster_failover: "server-replaced" in 3;
    survives_planned_sentinel_failover: "replica-promoted" in 1;
    survives_sentinel_failover_of_killed_master: "master-killed" in 1;
    survives_slot_migration: "slots-moved" in 3;
    survives_cut_links: "links-cut" in 1;
    survives_slow_links: "links-delayed" in 1;
    survives_blackholed_links: "links-blackholed" in 1;
    survives_killed_app_nodes_with_shards: "app-nodes-killed" in 3;
    survives_killed_io_nodes_with_shards: "io-nodes-killed" in 3;
    survives_simultaneous_failures: "everything-at-once" in 1;
    survives_flaky_links: "links-flaky" in 1;
    survives_narrow_links: "links-narrow" in 1;
    survives_isolated_io_node: "io-node-isolated" in 1;
    ignores_late_copies_of_calls: "late-copies" in 1;
    greedy_clients_do_not_starve_others: "greedy-clients" in 1;
    recovers_from_flushed_redis: "redis-flushed" in 3;
    recovers_from_redis_restarted_empty: "redis-restarted-without-aof" in 1;
}

/// Measures the time until a killed app-node's partitions are served again and a killed io-node's clients are disconnected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_nodes_are_replaced_after_their_lease() {
    const LEASE: Duration = Duration::from_secs(1);
    let redis = Redis::new().start().await;
    let settings = "instances = 2\ngrants = { keyvalue = [\"default\"] }";
    let cluster = Cluster::new(redis.url())
        .app("/", &component("recorder"), settings)
        .transport(&format!("lease-ms = {}", LEASE.as_millis()));
    let mut apps = [cluster.start_app().await, cluster.start_app().await];
    let mut ios = [cluster.start_io().await, cluster.start_io().await];
    let check = Check::start(Settings {
        urls: ios.iter().map(Node::url).collect(),
        clients: 32,
        lifetime: None,
        ..Default::default()
    });
    let check = check.await.expect("the cluster can be checked");
    let progress = check.progress();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let app_killed_at = progress.now();
    apps[0].kill9().await;
    tokio::time::sleep(LEASE * 3).await;
    let io_killed_at = progress.now();
    ios[0].kill9().await;
    tokio::time::sleep(LEASE * 3).await;
    let report = check.finish().await;
    report.assert_clean();

    let moved = waited_after(&report, app_killed_at, io_killed_at);
    println!("a killed app-node's partitions: served again after {moved:.2?} (lease {LEASE:?})");
    let told = report.history.watches.iter().flat_map(|watch| &watch.notices);
    let told: Vec<u64> = told
        .filter(|gone| gone.reason == "node-lost")
        .map(|gone| gone.at - io_killed_at)
        .collect();
    let (first, last) = (told.iter().min(), told.iter().max());
    let time = |at: Option<&u64>| Duration::from_micros(*at.expect("its clients' disconnects arrive"));
    println!(
        "a killed io-node's clients: disconnected after {:.2?} to {:.2?} (lease {LEASE:?})",
        time(first),
        time(last)
    );
    // Far longer than promised, for busy machines.
    assert!(moved < LEASE * 30, "{moved:?}");
    assert!(time(last) < LEASE * 30, "{:?}", time(last));
}

/// Longest wait, from `from` on, for the answer to a message sent before `until`.
fn waited_after(report: &Report, from: u64, until: u64) -> Duration {
    let sent = report.history.traces.iter().flat_map(|trace| &trace.sent);
    let waits = sent.filter(|sent| sent.at < until).filter_map(|sent| {
        let acked_at = sent.acked_at.filter(|at| *at > from)?;
        Some(acked_at - sent.at.max(from))
    });
    Duration::from_micros(waits.max().expect("some message was answered"))
}
