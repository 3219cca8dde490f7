//! An app-node is killed under load: how long those wait whose events it had, while nothing is lost or doubled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plugnode_tests::{Cluster, Redis, component};
use tokio::time::sleep;

use super::APP;
use crate::rounds::{Extent, Round, Row};
use crate::server::Server;
use crate::talk::{Talk, paced};

const CLIENTS: usize = 100;
/// Messages a second, of all of them.
const RATE: f64 = 2_000.0;
const LEASE: Duration = Duration::from_secs(1);
/// What is watched after a kill.
const AFTER: Duration = Duration::from_secs(5);
/// Who waits longer than this has been waiting for the node that is gone.
const CONCERNED: Duration = Duration::from_millis(500);

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url())
        .app("/", &component("benchmark"), APP)
        .transport(&format!("lease-ms = {}", LEASE.as_millis()));
    let io = cluster.start_io().await;
    let server = Server::of_port("plugnode, redis", io.port());
    let mut row = Row::new("redis", &server);
    let mut stays = cluster.start_app().await;
    for number in 1..=extent.rounds.min(5) {
        eprintln!("   round {number}");
        let other = cluster.start_app().await;
        let (crowd, longest) = paced(&server, CLIENTS, RATE, &Talk::echo()).await?;
        // Until the newcomer has its part of the partitions.
        sleep(LEASE * 2).await;
        longest.iter().for_each(|longest| longest.store(0, Ordering::Relaxed));
        // The older one this time, which the next round replaces.
        stays.kill9().await;
        stays = other;
        sleep(AFTER).await;
        let mut round = Round::of(crowd.close().await);
        let longest = longest
            .iter()
            .map(|longest| Duration::from_micros(longest.load(Ordering::Relaxed)));
        let mut waited: Vec<Duration> = longest.filter(|longest| *longest > CONCERNED).collect();
        waited.sort_unstable();
        let at = |place: usize| waited.get(place).copied().unwrap_or_default().as_secs_f64();
        round.say("clients concerned", "", waited.len() as f64);
        round.say("median wait", "s", at(waited.len() / 2));
        round.say("longest wait", "s", at(waited.len().saturating_sub(1)));
        row.add(round);
    }
    Ok(vec![row])
}
