//! The latency of clients during deploys: rounds without deploys and with one deploy per second, in turn, over Redis and three
//! app-nodes.
//!
//! The compiler shares the machine with everything else: read the ratio, and mind the number of processors. The builds differ
//! by very little, less than real changes do, so an incremental compiler would have almost nothing to do. Therefore the cache of
//! compiled functions is removed before each deploy.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use plugnode_tests::{Cluster, Console, Redis, component, rebuilt};
use tokio::time::sleep;

use super::APP;
use crate::exchange::{Exchange, open_loop};
use crate::rounds::{Round, Row, RunSize};
use crate::server::Server;

const CLIENTS: usize = 100;
/// Messages per second, of all clients.
const RATE: f64 = 500.0;
/// Time between the starts of two deploys, unless one takes longer.
const DEPLOY_INTERVAL: Duration = Duration::from_secs(1);
const APP_NODES: usize = 3;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let redis = Redis::new().start().await;
    let cache = tempfile::tempdir()?;
    let cluster = Cluster::new(redis.url())
        .settings(&format!("[app-node]\ncache-dir = {:?}", cache.path()))
        .app("/", &component("benchmark"), APP);
    let mut apps = Vec::new();
    for _ in 0..APP_NODES {
        apps.push(cluster.start_app().await);
    }
    let io = cluster.start_io().await;
    let console = Console::of(&cluster.config("app-node"));
    let without_deploys = Server::external("plugnode, without deploys", io.port());
    let with_deploys = Server::external("plugnode, with deploys", io.port());
    let mut rows = vec![Row::new("quiet", &without_deploys), Row::new("stormy", &with_deploys)];
    // Longer rounds, because a deploy takes long.
    let size = RunSize {
        time: size.time * 3,
        ..size.at_most(3)
    };
    // A warm-up round, for connections, caches and the first artifacts.
    let deployer = Deployer {
        console: &console,
        function_cache: &cache.path().join("compiled/functions"),
    };
    round_with_deploys(&with_deploys, &deployer, size).await?;
    for number in 1..=size.rounds {
        eprintln!("   round {number} of {}", size.rounds);
        let (load, _) = open_loop(&without_deploys, CLIENTS, RATE, &Exchange::echo()).await?;
        rows[0].add(load.throughput_round(&without_deploys, size, "messages").await);
        rows[1].add(round_with_deploys(&with_deploys, &deployer, size).await?);
    }
    Ok(rows)
}

/// Deploys builds that were never compiled before.
struct Deployer<'a> {
    console: &'a Console,
    function_cache: &'a Path,
}

/// A round with deploys. Clients keep sending until the last deploy is complete, because a node completes it at its first use.
async fn round_with_deploys(server: &Server, deployer: &Deployer<'_>, size: RunSize) -> anyhow::Result<Round> {
    let (load, _) = open_loop(server, CLIENTS, RATE, &Exchange::echo()).await?;
    let deploys = deployer.deploy_for(size.warm_up() + size.time);
    let (measurement, deploys) = tokio::join!(load.measure(server, size), deploys);
    let (latency, deploys) = (load.progress.latency.percentiles(), deploys?);
    let mut round = Round::of(load.close().await);
    measurement.record_in(&mut round, "messages");
    round.record_latency(latency);
    round.record("deploys", "", deploys.len() as f64);
    let slowest = deploys.iter().max().copied().unwrap_or_default();
    round.record("slowest deploy", "s", slowest.as_secs_f64());
    Ok(round)
}

impl Deployer<'_> {
    /// Deploys a new build each second. Returns the time of each deploy, until the last node uses it.
    async fn deploy_for(&self, time: Duration) -> anyhow::Result<Vec<Duration>> {
        let end = Instant::now() + time;
        let mut deploys = Vec::new();
        while Instant::now() < end {
            let next = Instant::now() + DEPLOY_INTERVAL;
            // Unique over all runs, so that it has to be compiled.
            let number = UNIX_EPOCH.elapsed()?.as_millis() as u64;
            let build = rebuilt(&component("benchmark"), number);
            match fs::remove_dir_all(self.function_cache) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            let output = self.console.deploy(&build, &[]).await;
            anyhow::ensure!(output.is_in_use(), "a deploy failed: {output:?}");
            deploys.extend(output.until_last_node());
            sleep(next.min(end).saturating_duration_since(Instant::now())).await;
        }
        Ok(deploys)
    }
}
