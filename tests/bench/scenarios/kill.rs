//! An app-node is killed under load: how long clients with events on it wait. No event may be lost or doubled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plugnode_tests::{Cluster, Redis, component};
use tokio::time::sleep;

use super::APP;
use crate::exchange::{Exchange, open_loop};
use crate::rounds::{Round, Row, RunSize};
use crate::server::Server;

const CLIENTS: usize = 100;
/// Messages per second, of all clients.
const RATE: f64 = 2_000.0;
const LEASE: Duration = Duration::from_secs(1);
/// Measured time after a kill.
const RECOVERY: Duration = Duration::from_secs(5);
/// A client that waits longer than this is affected by the kill.
const AFFECTED: Duration = Duration::from_millis(500);

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url())
        .app("/", &component("benchmark"), APP)
        .transport(&format!("lease-ms = {}", LEASE.as_millis()));
    let io = cluster.start_io().await;
    let server = Server::external("plugnode, redis", io.port());
    let mut row = Row::new("redis", &server);
    let mut older = cluster.start_app().await;
    for number in 1..=size.rounds.min(5) {
        eprintln!("   round {number}");
        let newer = cluster.start_app().await;
        let (load, longest_waits) = open_loop(&server, CLIENTS, RATE, &Exchange::echo()).await?;
        // Until the new node has its partitions.
        sleep(LEASE * 2).await;
        longest_waits
            .iter()
            .for_each(|longest| longest.store(0, Ordering::Relaxed));
        older.kill9().await;
        older = newer;
        sleep(RECOVERY).await;
        let mut round = Round::of(load.close().await);
        let longest_waits = longest_waits
            .iter()
            .map(|longest| Duration::from_micros(longest.load(Ordering::Relaxed)));
        let mut waited: Vec<Duration> = longest_waits.filter(|longest| *longest > AFFECTED).collect();
        waited.sort_unstable();
        let at = |index: usize| waited.get(index).copied().unwrap_or_default().as_secs_f64();
        round.record("clients concerned", "", waited.len() as f64);
        round.record("median wait", "s", at(waited.len() / 2));
        round.record("longest wait", "s", at(waited.len().saturating_sub(1)));
        row.add(round);
    }
    Ok(vec![row])
}
