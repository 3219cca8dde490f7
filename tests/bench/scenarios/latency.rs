//! Latency of an echo with one message in flight: of one client, and of each of a hundred.

use crate::exchange::{Exchange, closed_loop};
use crate::peers::{self, Handler};
use crate::rounds::{Contender, Row, RunSize, in_turn};

const MANY: usize = 100;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let single = [
        Contender::start("bare", peers::bare).await,
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let over_redis = [
        Contender::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Contender::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    let mut rows = measure(1, size, &single).await?;
    rows.extend(measure(1, size, &over_redis).await?);
    for row in measure(MANY, size, &over_redis).await? {
        rows.push(row.with_variant(&format!("of {MANY}"), &format!("{MANY} clients")));
    }
    Ok(rows)
}

async fn measure(clients: usize, size: RunSize, contenders: &[Contender]) -> anyhow::Result<Vec<Row>> {
    in_turn(size, contenders, async |_, server| {
        let load = closed_loop(server, clients, 1, &Exchange::echo()).await?;
        Ok(load.latency_round(server, size, "messages").await)
    })
    .await
}
