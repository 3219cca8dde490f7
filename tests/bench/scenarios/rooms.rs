//! Many rooms, with somebody speaking in each: what it costs to know who is where.

use crate::fan::rooms;
use crate::peers;
use crate::rounds::{Entrant, Extent, Row, in_turn};

const CLIENTS: usize = 2_000;
const ROOMS: usize = 200;
const OF_EACH: usize = 5;
const IN_FLIGHT: u64 = 1;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let extent = extent.at_most(3);
    let entrants = [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Entrant::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    let clients = extent.clients(CLIENTS);
    in_turn(extent, &entrants, async |_, server| {
        let crowd = rooms(server, clients, ROOMS, OF_EACH, IN_FLIGHT).await?;
        Ok(crowd.round(server, extent, "deliveries").await)
    })
    .await
}
