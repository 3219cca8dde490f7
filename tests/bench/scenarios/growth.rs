//! How the cost of a message grows: the same rate of messages over Redis, from a hundred to ten thousand clients, and with
//! more nodes.

use std::path::Path;

use crate::exchange::{Exchange, open_loop};
use crate::peers;
use crate::rounds::{Contender, Row, RunSize, in_turn};

/// Messages per second, of all clients.
const RATE: f64 = 3_000.0;
const CLIENTS: [(usize, &str); 3] = [
    (100, "100 clients"),
    (1_000, "1,000 clients"),
    (10_000, "10,000 clients"),
];
/// Numbers of io-nodes and app-nodes.
const NODES: [(usize, usize, &str); 4] = [
    (1, 1, "1 io-node, 1 app-node"),
    (1, 2, "1 io-node, 2 app-nodes"),
    (1, 4, "1 io-node, 4 app-nodes"),
    (3, 1, "3 io-nodes, 1 app-node"),
];
const CLIENTS_WITH_MORE_NODES: usize = 1_000;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let size = size.at_most(3);
    let mut rows = Vec::new();
    {
        let mut contenders = Vec::new();
        for (_, name) in CLIENTS {
            let start = async |folder: &Path| peers::redis(folder, 1, 1).await;
            contenders.push(Contender::start(name, start).await);
        }
        rows.extend(measure(size, &contenders, |index| CLIENTS[index].0).await?);
    }
    let mut contenders = Vec::new();
    for (io, app, name) in NODES {
        let start = async |folder: &Path| peers::redis(folder, io, app).await;
        contenders.push(Contender::start(name, start).await);
    }
    rows.extend(measure(size, &contenders, |_| CLIENTS_WITH_MORE_NODES).await?);
    Ok(rows.into_iter().map(Row::named_by_key).collect())
}

async fn measure(
    size: RunSize,
    contenders: &[Contender],
    clients: impl Fn(usize) -> usize,
) -> anyhow::Result<Vec<Row>> {
    in_turn(size, contenders, async |index, server| {
        let clients = size.clients(clients(index));
        let (load, _) = open_loop(server, clients, RATE, &Exchange::echo()).await?;
        Ok(load.throughput_round(server, size, "messages").await)
    })
    .await
}
