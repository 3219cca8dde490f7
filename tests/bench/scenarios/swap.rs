//! What a deploy each second costs those who talk meanwhile: rounds without deploys and rounds with them, in turn, over Redis
//! and three app-nodes.
//!
//! Compiling shares the machine with everything else here; read the ratio, and beside it how many processors there are. Builds
//! differ in hardly anything here, so that a compiler which knew the one before would have little to do, as little as it seldom
//! has with a change that somebody wrote: none is let know.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use plugnode_tests::{Cluster, Console, Redis, component, rebuilt};
use tokio::time::sleep;

use super::APP;
use crate::rounds::{Extent, Round, Row};
use crate::server::Server;
use crate::talk::{Talk, paced};

const CLIENTS: usize = 100;
/// Messages a second, of all of them.
const RATE: f64 = 500.0;
/// From deploy to deploy, unless one takes longer.
const DEPLOY: Duration = Duration::from_secs(1);
const APP_NODES: usize = 3;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
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
    let quiet = Server::of_port("plugnode, without deploys", io.port());
    let stormy = Server::of_port("plugnode, with deploys", io.port());
    let mut rows = vec![Row::new("quiet", &quiet), Row::new("stormy", &stormy)];
    // A deploy takes longer than what else is measured.
    let extent = Extent {
        time: extent.time * 3,
        ..extent.at_most(3)
    };
    // Connections, caches and the first artifacts are nobody's round.
    let deploying = Deploying {
        console: &console,
        known: &cache.path().join("compiled/functions"),
    };
    storm(&stormy, &deploying, extent).await?;
    for number in 1..=extent.rounds {
        eprintln!("   round {number} of {}", extent.rounds);
        let (crowd, _) = paced(&quiet, CLIENTS, RATE, &Talk::echo()).await?;
        rows[0].add(crowd.round(&quiet, extent, "messages").await);
        rows[1].add(storm(&stormy, &deploying, extent).await?);
    }
    Ok(rows)
}

/// Who deploys, and what a compiler would know of the builds before.
struct Deploying<'a> {
    console: &'a Console,
    known: &'a Path,
}

/// A round with deploys. Clients talk until the last of them is through, as a node is there by its first use of it.
async fn storm(server: &Server, deploying: &Deploying<'_>, extent: Extent) -> anyhow::Result<Round> {
    let (crowd, _) = paced(server, CLIENTS, RATE, &Talk::echo()).await?;
    let deploys = deploying.go_on_for(extent.warm_up() + extent.time);
    let (window, deploys) = tokio::join!(crowd.watch(server, extent), deploys);
    let (latency, deploys) = (crowd.field.latency.percentiles(), deploys?);
    let mut round = Round::of(crowd.close().await);
    window.tell(&mut round, "messages");
    round.latency(latency);
    round.say("deploys", "", deploys.len() as f64);
    let slowest = deploys.iter().max().copied().unwrap_or_default();
    round.say("slowest deploy", "s", slowest.as_secs_f64());
    Ok(round)
}

impl Deploying<'_> {
    /// Another build each second, and how long it took until the last node used it.
    async fn go_on_for(&self, time: Duration) -> anyhow::Result<Vec<Duration>> {
        let end = Instant::now() + time;
        let mut deploys = Vec::new();
        while Instant::now() < end {
            let next = Instant::now() + DEPLOY;
            // Never seen before, in this run or another, so that it has to be compiled.
            let number = UNIX_EPOCH.elapsed()?.as_millis() as u64;
            let build = rebuilt(&component("benchmark"), number);
            match fs::remove_dir_all(self.known) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            let answer = self.console.deploy(&build, &[]).await;
            anyhow::ensure!(answer.is_in_use(), "a deploy failed: {answer:?}");
            deploys.extend(answer.until_last_node());
            sleep(next.min(end).saturating_duration_since(Instant::now())).await;
        }
        Ok(deploys)
    }
}
