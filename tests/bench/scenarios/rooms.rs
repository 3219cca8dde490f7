//! Many rooms with a sender in each: the cost of looking up the members of a room.

use crate::fan_out::rooms;
use crate::peers;
use crate::rounds::{Contender, Row, RunSize, in_turn};

const CLIENTS: usize = 2_000;
const ROOMS: usize = 200;
const ROOMS_OF_CLIENT: usize = 5;
const IN_FLIGHT: u64 = 1;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let size = size.at_most(3);
    let contenders = [
        Contender::start("bare", peers::bare).await,
        Contender::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Contender::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    let clients = size.clients(CLIENTS);
    in_turn(size, &contenders, async |_, server| {
        let load = rooms(server, clients, ROOMS, ROOMS_OF_CLIENT, IN_FLIGHT).await?;
        Ok(load.throughput_round(server, size, "deliveries").await)
    })
    .await
}
