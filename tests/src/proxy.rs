//! A small TCP proxy in front of a server: the network, with its faults at hand.
//!
//! It knows no protocol. Each direction of each connection is a reader and a writer with a queue between them, so that a
//! delay costs time and not throughput. A bandwidth is shared by all connections, each direction for itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::free_port;
use crate::random::random;

/// Pieces on their way through one direction of one connection.
const QUEUE: usize = 1024;
/// Bytes of one piece at the most.
const PIECE: usize = 16 << 10;
/// How long a connection that is to be cut in the middle of a piece waits for one.
const LAST_PIECE: Duration = Duration::from_millis(20);

/// A proxy. It ends, with all its connections, when dropped.
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

/// What is done to connections.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Network {
    state: State,
    delay: Duration,
    /// Connections of an earlier age are closed.
    age: u64,
    /// Cut everything each such time.
    flaky: Option<Duration>,
    /// The generation of new connections.
    generation: u64,
    /// Connections of these generations carry nothing for now.
    stalled: (u64, u64),
    /// Bytes per second, each way.
    bandwidth: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Cut,
    Hold,
    Swallow,
}

impl Proxy {
    /// A proxy before the server at this address (`127.0.0.1:6379`).
    pub async fn to(address: impl Into<String>) -> Self {
        let (listener, port) = loop {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
                break (listener, port);
            }
        };
        let (network, seen) = watch::channel(Network {
            state: State::Open,
            delay: Duration::ZERO,
            age: 0,
            flaky: None,
            generation: 0,
            stalled: (0, 0),
            bandwidth: None,
        });
        let accepting = tokio::spawn(accept(listener, address.into().into(), seen));
        Self {
            port,
            network,
            accepting,
        }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a server, by way of this proxy.
    pub fn url(&self, server: &crate::RedisServer) -> String {
        let own = format!("127.0.0.1:{}", self.port);
        server.url().replace(&server.address(), &own)
    }

    /// Closes all connections and each new one at once, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.network.send_modify(|network| {
            network.state = State::Cut;
            network.age += 1;
        });
    }

    /// Closes all connections once; new ones are served.
    pub fn reset(&self) {
        self.network.send_modify(|network| network.age += 1);
    }

    /// Holds back what is on its way and what comes, as a network does that is partitioned for a while: nobody notices,
    /// and [`Proxy::mend`] delivers all of it, late.
    pub fn hold(&self) {
        self.network.send_modify(|network| network.state = State::Hold);
    }

    /// Takes connections, existing and new, and swallows all that they carry. [`Proxy::mend`] closes them.
    pub fn blackhole(&self) {
        self.network.send_modify(|network| network.state = State::Swallow);
    }

    /// Stalls the connections that there are, as a network does that loses their packets for a while; new ones are served.
    /// What is held up is delivered by [`Proxy::deliver_oldest`] or [`Proxy::mend`], also when its sender has given up the
    /// connection long ago and goes on by another one.
    pub fn stall(&self) {
        self.network.send_modify(|network| {
            network.generation += 1;
            network.stalled.1 = network.generation;
        });
    }

    /// Delivers what is held up on the connections that were stalled first, also while all others are held.
    pub fn deliver_oldest(&self) {
        self.network.send_modify(|network| {
            network.stalled.0 = (network.stalled.0 + 1).min(network.stalled.1);
        });
    }

    /// Carries no more than so many bytes per second each way, all connections together.
    pub fn bandwidth(&self, bytes_per_second: u64) {
        self.network
            .send_modify(|network| network.bandwidth = Some(bytes_per_second));
    }

    /// Lets everything take this long, each way.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }

    /// Cuts all connections each such time, each at an arbitrary byte; new ones are served.
    pub fn flaky(&self, every: Duration) {
        self.network.send_modify(|network| network.flaky = Some(every));
    }

    /// All is well again: no cut, hold, stall, blackhole, delay, flakiness or limit of bandwidth.
    pub fn mend(&self) {
        self.network.send_modify(|network| {
            if network.state == State::Swallow {
                // What was swallowed is missing in the middle of a stream.
                network.age += 1;
            }
            network.state = State::Open;
            network.delay = Duration::ZERO;
            network.flaky = None;
            network.stalled.0 = network.stalled.1;
            network.bandwidth = None;
        });
    }
}

impl Network {
    fn holds(&self, generation: u64) -> bool {
        generation >= self.stalled.0 && (self.state == State::Hold || generation < self.stalled.1)
    }
}

/// One direction of the link, which all connections share.
#[derive(Default)]
struct Lane {
    /// When all that was let through is carried.
    free_at: Mutex<Option<Instant>>,
}

impl Lane {
    /// Waits until so many bytes are carried at this bandwidth.
    async fn carry(&self, bytes: usize, bytes_per_second: u64) {
        let done_at = {
            let mut free_at = self.free_at.lock().expect("nobody panics with it");
            let begun_at = free_at.unwrap_or_else(Instant::now).max(Instant::now());
            let done_at = begun_at + Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
            *free_at = Some(done_at);
            done_at
        };
        tokio::time::sleep_until(done_at).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, address: Arc<str>, network: watch::Receiver<Network>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    let lanes = Arc::new([Lane::default(), Lane::default()]);
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(client, address.clone(), network.clone(), lanes.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until one side ends it or the network does.
async fn serve(client: TcpStream, address: Arc<str>, network: watch::Receiver<Network>, lanes: Arc<[Lane; 2]>) {
    let age = network.borrow().age;
    if network.borrow().state == State::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(&*address).await else {
        return;
    };
    for stream in [&client, &server] {
        // Delays are the proxy's to make, not the kernel's.
        let _ = stream.set_nodelay(true);
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (doom, doomed) = watch::channel(false);
    let mut directions = JoinSet::new();
    let generation = network.borrow().generation;
    for (lane, from, to) in [(0, client_reads, server_writes), (1, server_reads, client_writes)] {
        let (network, doomed, lanes) = (network.clone(), doomed.clone(), lanes.clone());
        directions.spawn(async move { carry(from, to, network, doomed, generation, &lanes[lane]).await });
    }
    tokio::select! {
        _ = directions.join_next() => {
            // What the other direction has in hand is on its way already.
            let _ = tokio::time::timeout(LAST_PIECE, directions.join_next()).await;
        }
        () = outlived(network.clone(), age) => {}
        () = lifetime(network) => {
            // The next piece is written in part; where nothing is said, there is nothing to cut through.
            doom.send_replace(true);
            let _ = tokio::time::timeout(LAST_PIECE, directions.join_next()).await;
        }
    }
}

/// Until connections of that age are closed.
async fn outlived(mut network: watch::Receiver<Network>, age: u64) {
    let _ = network.wait_for(|network| network.age > age).await;
}

/// How long a connection lives on a flaky network: about that time, each another; for ever on a better one.
async fn lifetime(mut network: watch::Receiver<Network>) {
    loop {
        let flaky = network.borrow_and_update().flaky;
        let over = async {
            match flaky {
                Some(every) => tokio::time::sleep(every.mul_f64(0.5 + random(1000) as f64 / 1000.0)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            changed = network.wait_for(|network| network.flaky != flaky) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Carries one direction until its sender ends it or its receiver is gone.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    doomed: watch::Receiver<bool>,
    generation: u64,
    lane: &Lane,
) {
    let (queue, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let delays = network.clone();
    let read = async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bandwidth = delays.borrow().bandwidth;
            if let Some(bandwidth) = bandwidth {
                // Nothing is read meanwhile, so that the sender is slowed as well.
                lane.carry(length, bandwidth).await;
            }
            let due = Instant::now() + delays.borrow().delay;
            if queue.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            let Ok(state) = network
                .wait_for(|network| !network.holds(generation))
                .await
                .map(|seen| seen.state)
            else {
                return;
            };
            if state == State::Swallow {
                continue;
            }
            let cut = *doomed.borrow();
            let piece = if cut {
                &piece[..random(piece.len() as u64) as usize]
            } else {
                &piece
            };
            if to.write_all(piece).await.is_err() || cut {
                return;
            }
        }
        // Through a network that carries nothing, no end is heard either.
        let _ = network.wait_for(|network| network.state == State::Open).await;
    };
    // The reader ends first and lets go of the queue; the writer then writes what is left.
    tokio::pin!(write);
    tokio::select! {
        () = &mut write => {}
        () = read => write.await,
    }
}
