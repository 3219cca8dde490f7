//! A storm of connections, as after a restart: the rate at which they are accepted, and the cost of each.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use plugnode_tests::sequence::SequenceCounts;
use tokio::time::sleep;

use super::all_servers;
use crate::client::{Client, MAX_CONNECTING};
use crate::latency::Latency;
use crate::rounds::{Round, Row, RunSize, in_turn};
use crate::server::Server;

const CLIENTS: usize = 2_000;
/// How long the server's work after the last connection still counts.
const AFTERMATH: Duration = Duration::from_millis(300);
/// How long the server's work for the disconnects may take. It is not counted.
const DISCONNECTING: Duration = Duration::from_secs(1);

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let size = size.at_most(3);
    let contenders = all_servers().await;
    let clients = size.clients(CLIENTS);
    in_turn(size, &contenders, async |_, server| Ok(storm(server, clients).await)).await
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
        .buffer_unordered(MAX_CONNECTING)
        .collect()
        .await;
    let time = begun.elapsed();
    sleep(AFTERMATH).await;
    let cost = server.cpu().into_iter().zip(before);
    let cost = cost.map(|((part, after), (_, before))| (part, (after - before).as_secs_f64() * 1e6 / clients as f64));
    let accepted = connected.iter().filter(|client| client.is_ok()).count();
    let mut round = Round::of(SequenceCounts {
        expected: clients as u64,
        lost: (clients - accepted) as u64,
        ..SequenceCounts::default()
    });
    round.record("connections", "/s", accepted as f64 / time.as_secs_f64());
    round.record_cpu(cost.collect());
    round.record_latency(latency.percentiles());
    drop(connected);
    sleep(DISCONNECTING).await;
    round
}
