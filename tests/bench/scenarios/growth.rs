//! How the cost of a message grows: the same messages a second over Redis, from a hundred clients and from ten thousand, and
//! with more nodes to do it.

use std::path::Path;

use crate::peers;
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, paced};

/// Messages a second, of all clients.
const RATE: f64 = 3_000.0;
const CLIENTS: [usize; 3] = [100, 1_000, 10_000];
/// Nodes of each kind, io and app, with the clients in the middle.
const NODES: [(usize, usize); 4] = [(1, 1), (1, 2), (1, 4), (3, 1)];

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let extent = extent.at_most(3);
    let mut rows = Vec::new();
    {
        let mut entrants = Vec::new();
        for clients in CLIENTS {
            let start = async |folder: &Path| peers::redis(folder, 1, 1).await;
            entrants.push(Entrant::start(format!("{clients} clients"), start).await);
        }
        rows.extend(with(extent, &entrants, |place| CLIENTS[place]).await?);
    }
    let mut entrants = Vec::new();
    for (io, app) in NODES {
        let start = async |folder: &Path| peers::redis(folder, io, app).await;
        entrants.push(Entrant::start(format!("{io} io, {app} app"), start).await);
    }
    rows.extend(with(extent, &entrants, |_| CLIENTS[1]).await?);
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
