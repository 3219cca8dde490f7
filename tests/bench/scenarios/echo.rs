//! Echo as fast as it goes: what a message costs from socket to handler and back.

use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, steady};

pub(super) const CLIENTS: usize = 100;
pub(super) const IN_FLIGHT: usize = 8;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let entrants = [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("node_alone", peers::node_alone).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Entrant::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Entrant::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    in_turn(extent, &entrants, async |_, server| {
        let crowd = steady(server, CLIENTS, IN_FLIGHT, &Talk::echo()).await?;
        Ok(crowd.round(server, extent, "messages").await)
    })
    .await
}
