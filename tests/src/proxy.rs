//! A TCP proxy in front of a server that injects network faults.
//!
//! It knows no protocol. Each direction of a connection has a reader and a writer with a queue between them, so that a delay does not
//! reduce throughput. All connections share the bandwidth of a direction.

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

/// Longest queue of one direction of a connection, in pieces.
const QUEUE: usize = 1024;
/// Most bytes of a piece.
const PIECE: usize = 16 << 10;
/// Time for which a flaky connection waits for a piece to cut.
const LAST_PIECE: Duration = Duration::from_millis(20);

/// A proxy. It ends, with all its connections, when dropped.
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

/// The current state of the network.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Network {
    state: State,
    delay: Duration,
    /// Connections of an earlier age are closed.
    age: u64,
    /// Mean lifetime of connections on a flaky network.
    flaky: Option<Duration>,
    /// The generation of new connections.
    generation: u64,
    /// Connections of the generations in this range are stalled.
    stalled: (u64, u64),
    /// Bytes per second in each direction.
    bandwidth: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Cut,
    Hold,
    Blackhole,
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

    /// The URL of a server through this proxy.
    pub fn url(&self, server: &crate::RedisServer) -> String {
        let own = format!("127.0.0.1:{}", self.port);
        server.url().replace(&server.address(), &own)
    }

    /// Closes all connections, and each new one at once, until [`Proxy::mend`].
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

    /// Holds all traffic, like a network partition: connections stay open, and [`Proxy::mend`] delivers everything late.
    pub fn hold(&self) {
        self.network.send_modify(|network| network.state = State::Hold);
    }

    /// Keeps and accepts connections, and drops all their traffic. [`Proxy::mend`] closes them.
    pub fn blackhole(&self) {
        self.network.send_modify(|network| network.state = State::Blackhole);
    }

    /// Stalls the existing connections; new ones are served. [`Proxy::deliver_oldest`] or [`Proxy::mend`] delivers the held traffic, even
    /// after its sender has abandoned the connection.
    pub fn stall(&self) {
        self.network.send_modify(|network| {
            network.generation += 1;
            network.stalled.1 = network.generation;
        });
    }

    /// Delivers the traffic of the connections that were stalled first.
    pub fn deliver_oldest(&self) {
        self.network.send_modify(|network| {
            network.stalled.0 = (network.stalled.0 + 1).min(network.stalled.1);
        });
    }

    /// Limits all connections together to `bytes_per_second` in each direction.
    pub fn bandwidth(&self, bytes_per_second: u64) {
        self.network
            .send_modify(|network| network.bandwidth = Some(bytes_per_second));
    }

    /// Delays all traffic by this time in each direction.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }

    /// Cuts each connection after about this time, at an arbitrary byte; new ones are served.
    pub fn flaky(&self, every: Duration) {
        self.network.send_modify(|network| network.flaky = Some(every));
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.network.send_modify(|network| {
            if network.state == State::Blackhole {
                // The dropped bytes are missing in the streams.
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

/// One direction of the link, shared by all connections.
#[derive(Default)]
struct Lane {
    /// When the bytes so far have been carried.
    free_at: Mutex<Option<Instant>>,
}

impl Lane {
    /// Waits until `bytes` have been carried at this bandwidth.
    async fn carry(&self, bytes: usize, bytes_per_second: u64) {
        let done_at = {
            let mut free_at = self.free_at.lock().expect("no holder of this lock panics");
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
    // Dropping the set closes the connections.
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
        // No delays by the kernel.
        let _ = stream.set_nodelay(true);
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (cut, is_cut) = watch::channel(false);
    let mut directions = JoinSet::new();
    let generation = network.borrow().generation;
    for (lane, from, to) in [(0, client_reads, server_writes), (1, server_reads, client_writes)] {
        let (network, is_cut, lanes) = (network.clone(), is_cut.clone(), lanes.clone());
        directions.spawn(async move { carry(from, to, network, is_cut, generation, &lanes[lane]).await });
    }
    tokio::select! {
        _ = directions.join_next() => {
            // Let the other direction deliver its last pieces.
            let _ = tokio::time::timeout(LAST_PIECE, directions.join_next()).await;
        }
        () = wait_for_reset(network.clone(), age) => {}
        () = lifetime(network) => {
            // The next piece is written in part; an idle connection is just closed.
            cut.send_replace(true);
            let _ = tokio::time::timeout(LAST_PIECE, directions.join_next()).await;
        }
    }
}

/// Waits until connections of this age are to be closed.
async fn wait_for_reset(mut network: watch::Receiver<Network>, age: u64) {
    let _ = network.wait_for(|network| network.age > age).await;
}

/// Waits for the lifetime of a connection: random around the mean on a flaky network, else for ever.
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

/// Carries one direction until the sender ends it or the receiver has closed.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    is_cut: watch::Receiver<bool>,
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
                // Not reading meanwhile slows the sender down.
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
            if state == State::Blackhole {
                continue;
            }
            let cut = *is_cut.borrow();
            let piece = if cut {
                &piece[..random(piece.len() as u64) as usize]
            } else {
                &piece
            };
            if to.write_all(piece).await.is_err() || cut {
                return;
            }
        }
        // The end of the stream is held as well while the network carries nothing.
        let _ = network.wait_for(|network| network.state == State::Open).await;
    };
    // The reader ends first and closes the queue; the writer then writes the rest.
    tokio::pin!(write);
    tokio::select! {
        () = &mut write => {}
        () = read => write.await,
    }
}
