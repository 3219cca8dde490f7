//! How the cost of a message grows: the same messages a second over Redis, from a hundred clients and from ten thousand, and
//! with more nodes to do it.

use std::path::Path;

use crate::peers;
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, paced};

/// Messages a second, of all clients.
const RATE: f64 = 3_000.0;
const CLIENTS: [(usize, &str); 3] = [
    (100, "100 clients"),
    (1_000, "1,000 clients"),
    (10_000, "10,000 clients"),
];
/// How many hold connections, and how many handle what comes by them.
const NODES: [(usize, usize, &str); 4] = [
    (1, 1, "1 io-node, 1 app-node"),
    (1, 2, "1 io-node, 2 app-nodes"),
    (1, 4, "1 io-node, 4 app-nodes"),
    (3, 1, "3 io-nodes, 1 app-node"),
];
const CLIENTS_OF_NODES: usize = 1_000;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let extent = extent.at_most(3);
    let mut rows = Vec::new();
    {
        let mut entrants = Vec::new();
        for (_, name) in CLIENTS {
            let start = async |folder: &Path| peers::redis(folder, 1, 1).await;
            entrants.push(Entrant::start(name, start).await);
        }
        rows.extend(with(extent, &entrants, |place| CLIENTS[place].0).await?);
    }
    let mut entrants = Vec::new();
    for (io, app, name) in NODES {
        let start = async |folder: &Path| peers::redis(folder, io, app).await;
        entrants.push(Entrant::start(name, start).await);
    }
    rows.extend(with(extent, &entrants, |_| CLIENTS_OF_NODES).await?);
    Ok(rows.into_iter().map(Row::known_by_key).collect())
}

async fn with(extent: Extent, entrants: &[Entrant], clients: impl Fn(usize) -> usize) -> anyhow::Result<Vec<Row>> {
    in_turn(extent, entrants, async |number, server| {
        let clients = extent.clients(clients(number));
        let (crowd, _) = paced(server, clients, RATE, &Talk::echo()).await?;
        Ok(crowd.round(server, extent, "messages").await)
    })
    .await
}
