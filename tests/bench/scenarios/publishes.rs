//! Publishes through the server API at a fixed rate: whether each arrives once and in order, how late it is, and what it costs. A backlog that
//! grows shows as lateness at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use plugnode_tests::sequence::{FIRST, SequenceCheck, SequenceCounts};
use plugnode_tests::{Client, free_port};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::peers;
use crate::rounds::{Contender, Round, Row, RunSize, in_turn};
use crate::server::Server;

/// Programs that publish, each on one connection with one request in flight.
const PROGRAMS: usize = 200;
/// The pause between the publishes of a program. With `PROGRAMS`, 5,000 publishes per second.
const PERIOD: Duration = Duration::from_millis(40);
/// How long publishes may still be on their way.
const SETTLING: Duration = Duration::from_secs(5);

/// What a client received.
struct Received {
    counts: SequenceCounts,
    /// Microseconds from the time for which a publish was planned to its arrival.
    lateness: Histogram<u64>,
    /// The same of the last one.
    last: u64,
}

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let ports = [free_port(), free_port()];
    let contenders = [
        Contender::start("memory", async |folder| peers::memory_with_api(folder, ports[0]).await).await,
        Contender::start("redis", async |folder| peers::redis_with_api(folder, ports[1]).await).await,
    ];
    let round =
        async |index: usize, server: &Server| measure(server, ports[index], size).await.map_err(io::Error::other);
    in_turn(size, &contenders, round).await
}

async fn measure(server: &Server, api: u16, size: RunSize) -> anyhow::Result<Round> {
    let mut pairs = Vec::with_capacity(PROGRAMS);
    for number in 0..PROGRAMS {
        let opened = Client::open(server.port(number), "/", json!({})).await?;
        let client = opened.map_err(|refused| anyhow::anyhow!("a client is refused: {refused:?}"))?;
        let stream = TcpStream::connect(("127.0.0.1", api)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        pairs.push((client, sender));
    }
    let began = Instant::now();
    let end = began + size.warm_up() + size.time;
    let mut running = JoinSet::new();
    for (number, (client, sender)) in pairs.into_iter().enumerate() {
        let first = began + PERIOD.mul_f64(number as f64 / PROGRAMS as f64);
        running.spawn(run_pair(client, sender, first, end));
    }
    sleep(size.warm_up()).await;
    let (cpu, measured) = (server.cpu(), Instant::now());
    sleep_until(end).await;
    let cpu = server.cpu().into_iter().zip(cpu);
    let cpu: Vec<_> = cpu.map(|((part, after), (_, before))| (part, after - before)).collect();
    let seconds = measured.elapsed().as_secs_f64();
    let (mut counts, mut lateness, mut last) = (SequenceCounts::default(), Histogram::<u64>::new(3)?, 0);
    while let Some(received) = running.join_next().await {
        let received = received??;
        counts += received.counts;
        lateness.add(&received.lateness)?;
        last = last.max(received.last);
    }
    let rate = PROGRAMS as f64 / PERIOD.as_secs_f64();
    let mut round = Round::of(counts);
    round.record("publishes", "/s", counts.expected as f64 / (end - began).as_secs_f64());
    round.record_cpu(
        cpu.into_iter()
            .map(|(part, time)| (part, time.as_secs_f64() * 1e6 / (rate * seconds)))
            .collect(),
    );
    for (name, micros) in [
        ("p50", lateness.value_at_quantile(0.5)),
        ("p99", lateness.value_at_quantile(0.99)),
        ("at the end", last),
    ] {
        round.record(name, "ms", micros as f64 / 1e3);
    }
    Ok(round)
}

/// A program, and the client that it publishes to.
async fn run_pair(
    mut client: Client,
    sender: SendRequest<Full<Bytes>>,
    first: Instant,
    end: Instant,
) -> anyhow::Result<Received> {
    let sent = Arc::new(AtomicU64::new(0));
    let mut publishing = std::pin::pin!(publish(sender, client.id().to_owned(), sent.clone(), first, end));
    let (mut lateness, mut last) = (Histogram::<u64>::new(3)?, 0);
    let mut check = SequenceCheck::new(sent.clone());
    // None while it publishes.
    let mut until = None;
    let mut came = 0;
    while until.is_none_or(|until| came < sent.load(Ordering::Relaxed) && Instant::now() < until) {
        let (event, args) = tokio::select! {
            published = &mut publishing, if until.is_none() => {
                published?;
                until = Some(Instant::now() + SETTLING);
                continue;
            }
            event = client.event() => event,
            () = sleep_until(until.unwrap_or(end + SETTLING)), if until.is_some() => break,
        };
        let number = args.first().and_then(Value::as_u64).filter(|_| event == "published");
        check.record(number);
        came += 1;
        let place = number.unwrap_or(FIRST).saturating_sub(FIRST) as u32;
        last = (first + PERIOD * place).elapsed().as_micros() as u64;
        lateness.record(last)?;
    }
    Ok(Received {
        counts: check.counts(),
        lateness,
        last,
    })
}

/// Publishes to one client at fixed times. Behind its times, it goes on at once.
async fn publish(
    mut sender: SendRequest<Full<Bytes>>,
    client: String,
    sent: Arc<AtomicU64>,
    first: Instant,
    end: Instant,
) -> anyhow::Result<()> {
    let mut due = first;
    while due < end {
        sleep_until(due).await;
        sender.ready().await?;
        let number = FIRST + sent.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "clients": [client], "event": "published", "args": [number] }).to_string();
        let request = Request::post("/api/v1/publish")
            .header("host", "127.0.0.1")
            .header("authorization", format!("Bearer {}", peers::API_KEY))
            .header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(body.into()))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        due += PERIOD;
    }
    Ok(())
}
