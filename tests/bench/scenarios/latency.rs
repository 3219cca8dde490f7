//! How long an answer takes when nobody hurries: one message in flight, by one client and by each of a hundred.

use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, steady};

const MANY: usize = 100;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let single = [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let over_redis = [
        Entrant::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Entrant::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    let mut rows = with(1, extent, &single).await?;
    rows.extend(with(1, extent, &over_redis).await?);
    for row in with(MANY, extent, &over_redis).await? {
        rows.push(row.called(&format!("of {MANY}"), &format!("{MANY} clients")));
    }
    Ok(rows)
}

async fn with(clients: usize, extent: Extent, entrants: &[Entrant]) -> anyhow::Result<Vec<Row>> {
    in_turn(extent, entrants, async |_, server| {
        let crowd = steady(server, clients, 1, &Talk::echo()).await?;
        Ok(crowd.unhurried_round(server, extent, "messages").await)
    })
    .await
}
