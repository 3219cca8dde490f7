//! A storm of connections, as after a restart: how fast all are let in, and what each costs.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use plugnode_tests::sequence::SequenceCounts;
use tokio::time::sleep;

use super::everyone;
use crate::client::{AT_ONCE, Client};
use crate::latency::Latency;
use crate::rounds::{Extent, Round, Row, in_turn};
use crate::server::Server;

const CLIENTS: usize = 2_000;
/// What a server still has to do when the last client is let in is that client's cost as well;
const LATER: Duration = Duration::from_millis(300);
/// and what it has to do when all have left is nobody's.
const LEFT: Duration = Duration::from_secs(1);

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let extent = extent.at_most(3);
    let entrants = everyone().await;
    let clients = extent.clients(CLIENTS);
    in_turn(extent, &entrants, async |_, server| Ok(storm(server, clients).await)).await
}

async fn storm(server: &Server, clients: usize) -> Round {
    let latency = Latency::new();
    let (before, begun) = (server.cpu(), Instant::now());
    let connected: Vec<_> = stream::iter(0..clients)
        .map(async |number| {
            let begun = Instant::now();
            let client = Client::connect(server.port(number), number).await;
            latency.record(begun.elapsed());
            client
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let time = begun.elapsed();
    sleep(LATER).await;
    let cost = server.cpu().into_iter().zip(before);
    let cost = cost.map(|((part, after), (_, before))| (part, (after - before).as_secs_f64() * 1e6 / clients as f64));
    let let_in = connected.iter().filter(|client| client.is_ok()).count();
    let mut round = Round::of(SequenceCounts {
        expected: clients as u64,
        lost: (clients - let_in) as u64,
        ..SequenceCounts::default()
    });
    round.say("connections", "/s", let_in as f64 / time.as_secs_f64());
    round.costs(cost.collect());
    round.latency(latency.percentiles());
    drop(connected);
    sleep(LEFT).await;
    round
}
