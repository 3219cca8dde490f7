//! A broadcast to everybody: what it takes until the last of them has heard it.

use crate::fan::everybody;
use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Row, in_turn};

const CLIENTS: usize = 500;
const IN_FLIGHT: u64 = 8;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let entrants = [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Entrant::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Entrant::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    in_turn(extent, &entrants, async |_, server| {
        let crowd = everybody(server, CLIENTS, IN_FLIGHT).await?;
        Ok(crowd.round(server, extent, "deliveries").await)
    })
    .await
}
