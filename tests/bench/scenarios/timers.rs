//! Periodic timers of many clients: whether each period has its event, how late it is, and what it costs.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use plugnode_tests::Client;
use plugnode_tests::sequence::SequenceCounts;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::peers::{self, Handler};
use crate::rounds::{Contender, Round, Row, RunSize, in_turn};
use crate::server::Server;

const CLIENTS: usize = 100;
/// With `CLIENTS`, 1,000 events per second.
const PERIOD_MS: u64 = 100;
/// How long events that are due may still be on their way.
const SETTLING: Duration = Duration::from_secs(2);

/// The events that one client received.
struct Received {
    counts: SequenceCounts,
    /// Due time and lateness of each, in milliseconds.
    lateness: HashMap<u64, u64>,
}

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let contenders = [
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Contender::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ];
    let round = async |_, server: &Server| measure(server, size).await.map_err(std::io::Error::other);
    in_turn(size, &contenders, round).await
}

async fn measure(server: &Server, size: RunSize) -> anyhow::Result<Round> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let opened = Client::open(server.port(number), "/", json!({})).await?;
        let mut client = opened.map_err(|refused| anyhow::anyhow!("a client is refused: {refused:?}"))?;
        client.ask("every", &[json!(PERIOD_MS)]).await;
        clients.push(client);
    }
    sleep(size.warm_up()).await;
    let (from, cpu, began) = (now_ms(), server.cpu(), Instant::now());
    let end = began + size.time;
    let mut listening = JoinSet::new();
    for client in clients {
        listening.spawn(listen(
            client,
            from,
            from + size.time.as_millis() as u64,
            end + SETTLING,
        ));
    }
    sleep(size.time).await;
    let cpu = server.cpu().into_iter().zip(cpu);
    let cpu: Vec<_> = cpu.map(|((part, after), (_, before))| (part, after - before)).collect();
    let (mut counts, mut lateness) = (SequenceCounts::default(), Histogram::<u64>::new(3)?);
    while let Some(received) = listening.join_next().await {
        let received = received?;
        counts += received.counts;
        for late in received.lateness.values() {
            lateness.record(*late)?;
        }
    }
    let mut round = Round::of(counts);
    let events = lateness.len().max(1) as f64;
    round.record("events", "/s", events / size.time.as_secs_f64());
    round.record_cpu(
        cpu.into_iter()
            .map(|(part, time)| (part, time.as_secs_f64() * 1e6 / events))
            .collect(),
    );
    for (name, quantile) in [("late p50", 0.5), ("late p99", 0.99), ("latest", 1.0)] {
        round.record(name, "ms", lateness.value_at_quantile(quantile) as f64);
    }
    Ok(round)
}

/// Receives the events of a client that are due between two times.
async fn listen(mut client: Client, from_ms: u64, to_ms: u64, until: Instant) -> Received {
    let (mut counts, mut lateness) = (SequenceCounts::default(), HashMap::new());
    // The due time of the event before.
    let mut last = 0;
    while last + PERIOD_MS < to_ms {
        let Ok((event, args)) = timeout_at(until, client.event()).await else {
            break;
        };
        let (Some(due), Some(missed)) = (
            args.first().and_then(Value::as_u64),
            args.get(1).and_then(Value::as_u64),
        ) else {
            counts.strange += 1;
            continue;
        };
        if event != "tick" || (from_ms..to_ms).contains(&due) && lateness.contains_key(&due) {
            counts.doubled += 1;
        }
        counts.out_of_order += u64::from(due < last);
        last = last.max(due);
        if (from_ms..to_ms).contains(&due) {
            counts.expected += 1 + missed;
            lateness.insert(due, now_ms().saturating_sub(due));
        }
    }
    // Periods without an event at the end of the time, or all of them. One period of tolerance for the borders.
    let due = (to_ms - from_ms) / PERIOD_MS;
    counts.lost += due.saturating_sub(counts.expected + 1);
    counts.expected = counts.expected.max(due);
    Received { counts, lateness }
}

fn now_ms() -> u64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is right");
    time.as_millis() as u64
}
