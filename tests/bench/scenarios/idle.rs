//! Connections that do nothing: what a server's memory grows by for each. Each round has processes of its own, as memory
//! that was used once is not given back at once.

use std::time::Duration;

use plugnode_tests::sequence::SequenceCounts;
use tokio::time::sleep;

use crate::client::connect;
use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Round, Row};
use crate::server::Server;
use crate::text::frame;

const CLIENTS: usize = 5_000;
/// Who come and go first, so that what is there once for all of them is there.
const BEFORE: usize = 50;
/// Until a server has done what it does for those who came.
const SETTLED: Duration = Duration::from_secs(2);
const WORD: &str = r#"42["echo","still here"]"#;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for number in 1..=extent.rounds.min(3) {
        for key in ["bare", "node_alone", "memory", "redis"] {
            let entrant = Entrant::start(key, async |folder| match key {
                "bare" => peers::bare(folder).await,
                "node_alone" => peers::node_alone(folder).await,
                "memory" => peers::memory(folder, Handler::Wasm).await,
                _ => peers::redis(folder, 1, 1).await,
            })
            .await;
            eprintln!("   round {number}: {}", entrant.server.name);
            let round = measure(&entrant.server, extent.clients(CLIENTS)).await?;
            match rows.iter_mut().find(|row| row.key == key) {
                Some(row) => row.add(round),
                None => rows.push(Row::new(key, &entrant.server).with(round)),
            }
        }
    }
    Ok(rows)
}

async fn measure(server: &Server, clients: usize) -> anyhow::Result<Round> {
    drop(connect(server, BEFORE).await?);
    sleep(SETTLED).await;
    let before = server.memory();
    let mut connected = connect(server, clients).await?;
    sleep(SETTLED).await;
    let after = server.memory();
    let mut silent = 0;
    for client in &mut connected {
        client.send(&frame(WORD.as_bytes()))?;
        silent += u64::from(client.text().await? != WORD.as_bytes());
    }
    let mut round = Round::of(SequenceCounts {
        expected: clients as u64,
        lost: silent,
        ..SequenceCounts::default()
    });
    let each = |bytes: f64| bytes / 1024.0 / clients as f64;
    let grown = || {
        after
            .iter()
            .zip(&before)
            .map(|((part, after), (_, before))| (*part, *after as f64 - *before as f64))
    };
    round.say("memory", "KB", each(grown().map(|(_, grown)| grown).sum()));
    if after.len() > 1 {
        grown().for_each(|(part, grown)| round.say(part.name(), "KB", each(grown)));
    }
    let whole: u64 = before.iter().map(|(_, bytes)| bytes).sum();
    round.say("at rest", "MB", whole as f64 / f64::from(1 << 20));
    Ok(round)
}
