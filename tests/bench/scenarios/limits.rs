//! The limits of Redis alone, with the commands of a queue: an upper bound for all servers that use it.

use crate::peers;
use crate::rounds::{Round, Row, RunSize};

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..size.at_most(3).rounds {
        let folder = tempfile::tempdir()?;
        for limit in peers::queue_limits(folder.path()).await {
            let name = format!("Redis, {}, {} at a time", limit.command, limit.pipeline);
            let mut round = Round::unaccounted();
            round.record("commands", "/s", limit.per_second);
            round.record("CPU", "µs", limit.cpu_micros);
            match rows.iter_mut().find(|row| row.key == name) {
                Some(row) => row.add(round),
                None => rows.push(Row::named(&name, &name).with(round)),
            }
        }
    }
    Ok(rows)
}
