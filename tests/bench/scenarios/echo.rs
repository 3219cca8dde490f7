//! Echo at full speed: the cost of a message from socket to handler and back.

use super::all_servers;
use crate::exchange::{Exchange, closed_loop};
use crate::rounds::{Row, RunSize, in_turn};

pub(super) const CLIENTS: usize = 100;
pub(super) const IN_FLIGHT: usize = 8;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let contenders = all_servers().await;
    in_turn(size, &contenders, async |_, server| {
        let load = closed_loop(server, CLIENTS, IN_FLIGHT, &Exchange::echo()).await?;
        Ok(load.throughput_round(server, size, "messages").await)
    })
    .await
}
