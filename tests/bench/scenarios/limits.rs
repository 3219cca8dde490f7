//! What the parts can do by themselves: Redis with the commands that a queue is made of. No server over it gets beyond that.

use crate::peers;
use crate::rounds::{Extent, Round, Row};

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..extent.at_most(3).rounds {
        let folder = tempfile::tempdir()?;
        for limit in peers::queue_limit(folder.path()).await {
            let name = format!("Redis, {}, {} at a time", limit.command, limit.pipeline);
            let mut round = Round::unaccounted();
            round.say("commands", "/s", limit.per_second);
            round.say("CPU", "µs", limit.cpu_micros);
            match rows.iter_mut().find(|row| row.key == name) {
                Some(row) => row.add(round),
                None => rows.push(Row::named(&name, &name).with(round)),
            }
        }
    }
    Ok(rows)
}
