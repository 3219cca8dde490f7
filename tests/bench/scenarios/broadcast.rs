//! A broadcast to all clients: the cost of each delivery.

use crate::fan_out::broadcast;
use crate::peers::{self, Handler};
use crate::rounds::{Contender, Row, RunSize, in_turn};

const CLIENTS: usize = 500;
const IN_FLIGHT: u64 = 8;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let contenders = [
        Contender::start("bare", peers::bare).await,
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Contender::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Contender::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    in_turn(size, &contenders, async |_, server| {
        let load = broadcast(server, CLIENTS, IN_FLIGHT).await?;
        Ok(load.throughput_round(server, size, "deliveries").await)
    })
    .await
}
