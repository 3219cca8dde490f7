//! The server under test, and ways to reach it: connections, requests, sessions, clients.
//!
//! On the loopback device attackers have their own source address, so that limits per address affect only them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout, timeout_at};

use crate::bystander::Bystander;
use crate::case::{CaseResult, Skipped};
use crate::polling::{Http, Polling};
use crate::process::Process;
use crate::socket::{Opened, Socket};

/// Source address of attackers on the loopback device.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Time within which a new client must be served, whatever the load.
const NEWCOMER: Duration = Duration::from_secs(10);
/// Connections opened concurrently.
const AT_ONCE: usize = 50;

/// Receive buffer of an attacker that does not read.
const SMALL_BUFFER: u32 = 4_096;
/// Segment size of such an attacker. The loopback device's 64 KB would let the sender's kernel buffer twenty times as much.
const SMALL_SEGMENT: u32 = 536;

/// How much data a connection accepts while nothing is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receives {
    Usual,
    LittleAtOnce,
    SmallSegments,
}

/// The server, with the options of the command line.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// For the header `Host`.
    pub(crate) host: String,
    /// The path of Engine.IO.
    pub(crate) path: String,
    pub(crate) file: Option<String>,
    /// The server API, and a key of it.
    pub(crate) api: Option<Arc<(Server, String)>>,
    pub(crate) patience: Duration,
    pub(crate) slack: f64,
    pub(crate) process: Option<Process>,
    address: SocketAddr,
}

impl Server {
    /// The server at `http://host:port`.
    pub(crate) async fn new(url: &str, path: &str, process: Option<Process>) -> Result<Self> {
        let host = url
            .strip_prefix("http://")
            .with_context(|| format!("{url} is not http://host:port"))?
            .trim_end_matches('/')
            .to_owned();
        let lookup = if host.contains(':') {
            host.clone()
        } else {
            format!("{host}:80")
        };
        let address = lookup_host(&lookup)
            .await
            .with_context(|| format!("{url} is not http://host:port"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        Ok(Self {
            host,
            path: path.to_owned(),
            file: None,
            api: None,
            patience: Duration::from_secs(30),
            slack: 1.0,
            process,
            address,
        })
    }

    /// Opens a connection of an attacker.
    pub(crate) async fn dial(&self) -> Result<TcpStream> {
        self.dial_from(ATTACKER, Receives::Usual).await
    }

    /// Opens a connection from the bystander's address.
    pub(crate) async fn dial_bystander(&self) -> Result<TcpStream> {
        self.dial_from(Ipv4Addr::LOCALHOST, Receives::Usual).await
    }

    async fn dial_from(&self, from: Ipv4Addr, receives: Receives) -> Result<TcpStream> {
        let socket = match self.address.ip() {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if receives != Receives::Usual {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        if receives == Receives::SmallSegments {
            SockRef::from(&socket).set_tcp_mss(SMALL_SEGMENT)?;
        }
        if self.address.is_ipv4() && self.address.ip().is_loopback() {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The path and query of an Engine.IO request.
    pub(crate) fn query(&self, transport: &str, more: &str) -> String {
        format!("{}?EIO=4&transport={transport}{more}", self.path)
    }

    /// A connection for well-formed requests.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.clone())
    }

    /// Opens a polling session, without a namespace.
    pub(crate) async fn session(&self) -> Result<Polling> {
        Polling::open(self.http(), &[]).await
    }

    /// Opens a client in namespace `/` by polling.
    pub(crate) async fn polling_client(&self) -> Result<Polling> {
        let mut polling = self.session().await?;
        polling.join().await?;
        Ok(polling)
    }

    /// Opens a websocket session, without a namespace.
    pub(crate) async fn socket(&self) -> Result<Socket> {
        let mut socket = self.upgrade("", "").await?.socket()?;
        socket.hear("0{").await?;
        Ok(socket)
    }

    /// Opens a client in namespace `/` by websocket.
    pub(crate) async fn client(&self) -> Result<Socket> {
        let mut socket = self.socket().await?;
        socket.send("40").await?;
        socket.hear("40").await?;
        Ok(socket)
    }

    /// Sends a websocket handshake with additional query parameters (`&name=value`) and header lines; returns the answer.
    pub(crate) async fn upgrade(&self, query: &str, headers: &str) -> Result<Opened> {
        let request = self.handshake(&self.query("websocket", query), headers);
        Opened::read(self.dial().await?, request.as_bytes()).await
    }

    /// The text of a websocket handshake with additional header lines, which may replace `Host`.
    pub(crate) fn handshake(&self, path: &str, headers: &str) -> String {
        let host = match headers.contains("Host: ") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.host),
        };
        format!(
            "GET {path} HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
    }

    /// Sends these bytes on a new connection; returns all that comes back until it is closed or silent.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Result<String> {
        const FIRST: Duration = Duration::from_secs(4);
        const MORE: Duration = Duration::from_millis(400);
        let mut stream = self.dial().await?;
        // The server may answer and close before all is written.
        let _ = timeout(FIRST, stream.write_all(bytes)).await;
        let mut answer = Vec::new();
        let mut wait = FIRST;
        while let Ok(Ok(1..)) = timeout(wait, stream.read_buf(&mut answer)).await {
            wait = MORE;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Time that a new client from the bystander's address takes to connect and be echoed.
    pub(crate) async fn newcomer(&self) -> Result<Duration> {
        let begun = Instant::now();
        let echoed = async { Bystander::connect(self).await?.echo("").await };
        timeout(NEWCOMER, echoed)
            .await
            .with_context(|| format!("a newcomer is not served in {NEWCOMER:?}"))??;
        Ok(begun.elapsed())
    }

    /// The path of the file that the server serves.
    pub(crate) fn file(&self) -> Result<&str> {
        Ok(self.file.as_deref().ok_or(Skipped("no --file is given"))?)
    }

    /// The server API, and a key of it.
    pub(crate) fn api(&self) -> Result<(Self, &str)> {
        let api = self.api.as_deref();
        let (server, key) = api.ok_or(Skipped("no --api and --api-key are given"))?;
        Ok((server.clone(), key))
    }

    /// Opens `connections` connections, writes `bytes` on each, and reads nothing.
    pub(crate) async fn hold(&self, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        self.hold_with(Receives::LittleAtOnce, connections, bytes).await
    }

    /// Holds connections like [`hold`](Self::hold), with small segments, so that the server's kernel buffers little as well.
    pub(crate) async fn hold_small(&self, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        self.hold_with(Receives::SmallSegments, connections, bytes).await
    }

    async fn hold_with(&self, receives: Receives, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        let open = || async {
            // A small receive buffer, so that the kernel reads little.
            let mut stream = self.dial_from(ATTACKER, receives).await?;
            // The rest stays unwritten.
            let _ = timeout(Duration::from_millis(200), stream.write_all(bytes)).await;
            anyhow::Ok(stream)
        };
        let mut held = Vec::new();
        while held.len() < connections {
            let some = join_all((0..AT_ONCE.min(connections - held.len())).map(|_| open())).await;
            held.extend(some.into_iter().collect::<Result<Vec<_>>>()?);
        }
        Ok(held)
    }

    /// Fails unless a new client is served while these connections are held and the server closes them within `--patience`. `files` is the
    /// number of its open files before.
    pub(crate) async fn assert_released(&self, held: Vec<TcpStream>, files: Option<usize>) -> CaseResult {
        self.assert_released_count(held.len(), files).await
    }

    /// The same for `held` connections that the caller holds.
    pub(crate) async fn assert_released_count(&self, held: usize, files: Option<usize>) -> CaseResult {
        let newcomer = self.newcomer().await?;
        ensure!(
            newcomer < Duration::from_secs(1).mul_f64(self.slack),
            "a newcomer is served only after {newcomer:.1?}"
        );
        let Some((files, process)) = files.zip(self.process) else {
            return Ok(format!("a newcomer is served after {newcomer:.0?}"));
        };
        let begun = Instant::now();
        loop {
            let open = process.files().context("the server has ended")?;
            if open <= files + held / 10 {
                let time = begun.elapsed();
                return Ok(format!(
                    "a newcomer is served after {newcomer:.0?}, and the connections are closed after {time:.1?}"
                ));
            }
            if begun.elapsed() > self.patience {
                let (more, patience) = (open - files, self.patience);
                bail!("{more} files of {held} connections are open after {patience:.0?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends each packet by a new client, which must be closed or have its next request answered.
    pub(crate) async fn each_closed_or_served(&self, packets: &[&str]) -> CaseResult {
        let mut closed = 0;
        for packet in packets {
            let mut client = self.client().await?;
            // The server may close before all is sent.
            let _ = client.send(packet).await;
            let end = client
                .closed_or_served()
                .await
                .with_context(|| format!("{packet:.50}"))?;
            closed += usize::from(end == "closed");
        }
        Ok(format!("{closed} closed, {} served", packets.len() - closed))
    }

    /// Number of open files of the server, if its process is known.
    pub(crate) fn files(&self) -> Option<usize> {
        self.process.and_then(Process::files)
    }

    /// A client that sends this chunk repeatedly for a time, and reads nothing.
    pub(crate) async fn flood_unread(&self, chunk: &[u8], time: Duration) -> CaseResult {
        let mut client = self.client().await?;
        let flood = flood(&mut client, chunk, time, false).await;
        // Stay connected for a moment, with the answers waiting.
        sleep(Duration::from_millis(300)).await;
        Ok(flood)
    }

    /// Floods the server while reading its answers.
    pub(crate) async fn flood(&self, chunk: &[u8], time: Duration) -> CaseResult {
        Ok(flood(&mut self.client().await?, chunk, time, true).await)
    }
}

async fn flood(client: &mut Socket, chunk: &[u8], time: Duration, reads: bool) -> String {
    let end = tokio::time::Instant::now() + time;
    let (mut sent, mut is_open) = (0, true);
    let (reader, writer) = client.halves();
    let send = async {
        while let Ok(wrote) = timeout_at(end, writer.write_all(chunk)).await {
            if wrote.is_err() {
                is_open = false;
                return;
            }
            sent += chunk.len();
        }
    };
    if reads {
        let read = reader.drain();
        tokio::select! { () = send => {} () = async { read.await; std::future::pending().await } => {} }
    } else {
        send.await;
    }
    let state = if is_open { "still open" } else { "closed" };
    format!("{} KB taken in {time:.1?}, then {state}", sent >> 10)
}
