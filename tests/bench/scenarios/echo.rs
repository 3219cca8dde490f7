//! Echo as fast as it goes: what a message costs from socket to handler and back.

use super::everyone;
use crate::rounds::{Extent, Row, in_turn};
use crate::talk::{Talk, steady};

pub(super) const CLIENTS: usize = 100;
pub(super) const IN_FLIGHT: usize = 8;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let entrants = everyone().await;
    in_turn(extent, &entrants, async |_, server| {
        let crowd = steady(server, CLIENTS, IN_FLIGHT, &Talk::echo()).await?;
        Ok(crowd.round(server, extent, "messages").await)
    })
    .await
}
