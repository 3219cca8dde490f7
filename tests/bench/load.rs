//! The load: Socket.IO clients that each keep some numbered messages in flight and account for every one.
//!
//! A round drives one server that echoes, and says how fast it was, what it cost, and what did not come back as it
//! should. The load's own CPU time is nobody's cost, but it shares the machine.

use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use plugnode_tests::within;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;

pub(crate) const CLIENTS: usize = 100;
pub(crate) const IN_FLIGHT: usize = 8;
const WARM_UP: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(4);
/// How long after the end of a round a message may still come back before it is lost.
const GRACE: Duration = Duration::from_secs(10);

// Names in the order of the alphabet, in which a server may put them that parses and writes anew.
const HEAD: &str = r#"42["echo",{"id":"#;
const TAIL: &str = r#","ok":true,"text":"the quick brown fox jumps over the lazy dog"}]"#;
/// Every number has as many digits as this.
const FIRST: u64 = 1_000_000;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a server did in one round.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// CPU time a message, in microseconds, of each process of the server.
    pub(crate) cpu_micros: Vec<f64>,
    pub(crate) tally: Tally,
}

/// What became of the messages.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
}

/// One client's side of the account.
struct Account {
    sent: u64,
    back: u64,
    /// The number that must come next.
    next: u64,
    /// Numbers that were overtaken by later ones and are not back yet.
    overtaken: BTreeSet<u64>,
    doubled: u64,
    out_of_order: u64,
}

/// Waits until a server echoes at all.
pub(crate) async fn ready(server: &Server) {
    within(&format!("{} echoes a first message", server.name), async {
        let mut account = Account::new();
        let counted = AtomicU64::new(0);
        exchange(server.ports[0], 1, &mut account, &counted, &AtomicBool::new(true)).await;
    })
    .await;
}

/// Drives a server for one round.
pub(crate) async fn measure(server: &Server) -> Round {
    let counted = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(server.ports[0], counted.clone(), over.clone())))
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let (counted_before, cpu_before, start) = (counted.load(Ordering::Relaxed), cpu(server), Instant::now());
    tokio::time::sleep(ROUND).await;
    let (messages, time) = (counted.load(Ordering::Relaxed) - counted_before, start.elapsed());
    let cpu = cpu(server);
    over.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    for client in clients {
        tally += client.await.expect("no client fails");
    }
    assert_ne!(messages, 0, "{} echoed nothing in {time:?}", server.name);
    Round {
        per_second: messages as f64 / time.as_secs_f64(),
        cpu_micros: cpu
            .iter()
            .zip(cpu_before)
            .map(|(after, before)| (*after - before).as_secs_f64() * 1e6 / messages as f64)
            .collect(),
        tally,
    }
}

async fn client(port: u16, counted: Arc<AtomicU64>, over: Arc<AtomicBool>) -> Tally {
    let mut account = Account::new();
    let limit = WARM_UP + ROUND + GRACE;
    // Whether it ended or its time did: the account tells.
    let _ = tokio::time::timeout(limit, exchange(port, IN_FLIGHT, &mut account, &counted, &over)).await;
    account.close()
}

/// Connects, keeps messages in flight until it is over, and then waits for those that are still out.
async fn exchange(port: u16, in_flight: usize, account: &mut Account, counted: &AtomicU64, over: &AtomicBool) {
    let mut socket = connect(port).await;
    for _ in 0..in_flight {
        socket.feed(account.message()).await.expect("it is open");
    }
    socket.flush().await.expect("it is open");
    while account.back < account.sent {
        let Some(Ok(Message::Text(text))) = socket.next().await else {
            panic!("the server closed the connection")
        };
        if text.as_str() == "2" {
            socket.send(Message::text("3")).await.expect("it is open");
            continue;
        }
        if !account.settle(&text) {
            continue;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        if !over.load(Ordering::Relaxed) {
            socket.send(account.message()).await.expect("it is open");
        }
    }
}

async fn connect(port: u16) -> Socket {
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = connect_async(url).await.expect("the server takes connections");
    socket.send(Message::text("40")).await.expect("it is open");
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        if text.starts_with("40") {
            return socket;
        }
    }
    panic!("the server refused a client")
}

fn cpu(server: &Server) -> Vec<Duration> {
    server.processes.iter().map(|process| process.cpu()).collect()
}

impl Account {
    fn new() -> Self {
        Self {
            sent: 0,
            back: 0,
            next: FIRST,
            overtaken: BTreeSet::new(),
            doubled: 0,
            out_of_order: 0,
        }
    }

    /// The next message to send.
    fn message(&mut self) -> Message {
        let number = FIRST + self.sent;
        self.sent += 1;
        Message::text(format!("{HEAD}{number}{TAIL}"))
    }

    /// Books what came, and says whether it was a message that was still out.
    fn settle(&mut self, text: &str) -> bool {
        let number: u64 = text
            .strip_prefix(HEAD)
            .and_then(|rest| rest.strip_suffix(TAIL))
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("what comes back is what was sent, but this did: {text}"));
        if number < self.next && !self.overtaken.remove(&number) {
            self.doubled += 1;
            return false;
        }
        if number < self.next {
            self.out_of_order += 1;
        }
        // Nothing when it is the expected one.
        self.overtaken.extend(self.next..number);
        self.next = self.next.max(number + 1);
        self.back += 1;
        true
    }

    fn close(self) -> Tally {
        Tally {
            sent: self.sent,
            lost: self.sent - self.back,
            doubled: self.doubled,
            out_of_order: self.out_of_order,
        }
    }
}

impl Tally {
    /// Whether every message came back, once, and in order where that is meant.
    pub(crate) fn is_clean(&self, in_order: bool) -> bool {
        self.lost == 0 && self.doubled == 0 && (!in_order || self.out_of_order == 0)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
    }
}
