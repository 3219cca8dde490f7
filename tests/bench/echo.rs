//! Echo: `plugnode` on the memory transport beside a bare socketioxide server, in one run.
//!
//! 100 clients with 8 messages in flight each, several rounds in turn, medians. The load shares the machine with the
//! servers, so read the ratios, and CPU time of the server per message before messages per second.
//! `cargo bench -p plugnode-tests --bench echo`, after `make build`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use plugnode_tests::{app, component, repository};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, Event, SocketRef};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 100;
const IN_FLIGHT: usize = 8;
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(4);
const PAYLOAD: &str = r#"42["msg",{"id":12345,"text":"the quick brown fox jumps over the lazy dog","ok":true}]"#;

struct Server {
    name: &'static str,
    process: Child,
    port: u16,
}

struct Round {
    per_second: f64,
    cpu_micros: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|arg| arg == "--bare") {
        return bare().await;
    }
    let binary = repository().join("target/release/plugnode");
    assert!(
        binary.exists(),
        "{} is not there: build it by `make build`",
        binary.display()
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{}",
        app("/", &component("echo"), "instances = 2")
    );
    std::fs::write(folder.path().join("plugnode.toml"), config).expect("it can be written");
    let own = std::env::current_exe().expect("a program knows itself");
    let servers = [
        start("bare socketioxide", &own, &["--bare"], folder.path()).await,
        start(
            "plugnode, memory",
            &binary,
            &["run", "-c", "plugnode.toml"],
            folder.path(),
        )
        .await,
    ];
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for n in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            eprintln!("round {} of {ROUNDS}: {}", n + 1, server.name);
            rounds.push(measure(server).await);
        }
    }
    let results: Vec<(f64, f64)> = rounds
        .iter()
        .map(|rounds| {
            (
                median(rounds, |round| round.per_second),
                median(rounds, |round| round.cpu_micros),
            )
        })
        .collect();
    println!("{:<20} {:>12} {:>22}", "echo", "messages/s", "server CPU a message");
    for (server, (per_second, cpu)) in servers.iter().zip(&results) {
        println!("{:<20} {per_second:>12.0} {cpu:>19.2} µs", server.name);
    }
    println!("ratio of messages/s: {:.2}", results[1].0 / results[0].0);
    println!("ratio of CPU:        {:.2}", results[1].1 / results[0].1);
}

/// Starts a server and learns its port from what it says.
async fn start(name: &'static str, program: &Path, args: &[&str], folder: &Path) -> Server {
    let mut process = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the server can be started");
    let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
    let port = loop {
        let line = lines
            .next_line()
            .await
            .expect("it can be read")
            .expect("the server says where it listens");
        if let Some((_, address)) = line.split_once("listening on http://") {
            let address = address.split_whitespace().next().expect("an address");
            break address
                .trim_end_matches('/')
                .rsplit(':')
                .next()
                .and_then(|port| port.parse().ok())
                .expect("a port");
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Server { name, process, port }
}

async fn measure(server: &Server) -> Round {
    let counted = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(load(server.port, counted.clone(), over.clone())))
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let (before, cpu_before, start) = (counted.load(Ordering::Relaxed), cpu(server), Instant::now());
    tokio::time::sleep(ROUND).await;
    let (messages, time) = (counted.load(Ordering::Relaxed) - before, start.elapsed());
    let cpu = cpu(server) - cpu_before;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no client fails");
    }
    Round {
        per_second: messages as f64 / time.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / messages as f64,
    }
}

/// One client: keeps its messages in flight, and counts what comes back.
async fn load(port: u16, counted: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = connect_async(url).await.expect("the server takes connections");
    socket.send(Message::text("40")).await.expect("it is open");
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        if text.starts_with("40") {
            break;
        }
    }
    for _ in 0..IN_FLIGHT {
        socket.feed(Message::text(PAYLOAD)).await.expect("it is open");
    }
    socket.flush().await.expect("it is open");
    while !over.load(Ordering::Relaxed) {
        let Some(Ok(Message::Text(text))) = socket.next().await else {
            panic!("the server closed the connection")
        };
        if text.starts_with("42") {
            assert_eq!(text.len(), PAYLOAD.len(), "what comes back is what was sent");
            counted.fetch_add(1, Ordering::Relaxed);
            socket.send(Message::text(PAYLOAD)).await.expect("it is open");
        } else if text.as_str() == "2" {
            socket.send(Message::text("3")).await.expect("it is open");
        }
    }
}

/// CPU time that the server has used so far.
fn cpu(server: &Server) -> Duration {
    let pid = server.process.id().expect("it runs");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs on Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("it has fields")
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The floor: socketioxide alone, with a handler that emits what it gets.
async fn bare() {
    let (service, io) = SocketIo::new_svc();
    io.ns("/", async |socket: SocketRef| {
        socket.on_fallback(
            async |socket: SocketRef, Event(event): Event, Data(data): Data<serde_json::Value>| {
                socket.emit(event, &data).expect("there is room in the queue");
            },
        );
    });
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a port is free");
    eprintln!("listening on http://{}", listener.local_addr().expect("it listens"));
    loop {
        let (tcp, _) = listener.accept().await.expect("connections can be taken");
        tcp.set_nodelay(true).expect("it is TCP");
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(tcp), service.clone())
            .with_upgrades();
        tokio::spawn(connection);
    }
}
