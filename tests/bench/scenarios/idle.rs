//! Idle connections: the memory of each. Each round has its own processes, because freed memory is not returned to the kernel
//! at once.

use std::time::Duration;

use plugnode_tests::sequence::SequenceCounts;
use tokio::time::sleep;

use crate::client::connect;
use crate::numbered_text::frame;
use crate::peers::{self, Handler};
use crate::rounds::{Contender, Round, Row, RunSize};
use crate::server::Server;

const CLIENTS: usize = 5_000;
/// Clients that connect and disconnect first, so that memory allocated once for all is not counted.
const WARM_UP_CLIENTS: usize = 50;
/// How long a server may still work for new clients.
const SETTLING: Duration = Duration::from_secs(2);
const MESSAGE: &str = r#"42["echo","still here"]"#;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for number in 1..=size.rounds.min(3) {
        for key in ["bare", "node_alone", "memory", "redis"] {
            let contender = Contender::start(key, async |folder| match key {
                "bare" => peers::bare(folder).await,
                "node_alone" => peers::node_alone(folder).await,
                "memory" => peers::memory(folder, Handler::Wasm).await,
                _ => peers::redis(folder, 1, 1).await,
            })
            .await;
            eprintln!("   round {number}: {}", contender.server.name);
            let round = measure(&contender.server, size.clients(CLIENTS)).await?;
            match rows.iter_mut().find(|row| row.key == key) {
                Some(row) => row.add(round),
                None => rows.push(Row::new(key, &contender.server).with(round)),
            }
        }
    }
    Ok(rows)
}

async fn measure(server: &Server, clients: usize) -> anyhow::Result<Round> {
    drop(connect(server, WARM_UP_CLIENTS).await?);
    sleep(SETTLING).await;
    let before = server.memory();
    let mut connected = connect(server, clients).await?;
    sleep(SETTLING).await;
    let after = server.memory();
    let mut unanswered = 0;
    for client in &mut connected {
        client.send(&frame(MESSAGE.as_bytes()))?;
        unanswered += u64::from(client.text().await? != MESSAGE.as_bytes());
    }
    let mut round = Round::of(SequenceCounts {
        expected: clients as u64,
        lost: unanswered,
        ..SequenceCounts::default()
    });
    let each = |bytes: f64| bytes / 1024.0 / clients as f64;
    let growth = || {
        after
            .iter()
            .zip(&before)
            .map(|((part, after), (_, before))| (*part, *after as f64 - *before as f64))
    };
    round.record("memory", "KB", each(growth().map(|(_, growth)| growth).sum()));
    if after.len() > 1 {
        growth().for_each(|(part, growth)| round.record(part.name(), "KB", each(growth)));
    }
    let total: u64 = before.iter().map(|(_, bytes)| bytes).sum();
    round.record("at rest", "MB", total as f64 / f64::from(1 << 20));
    Ok(round)
}
