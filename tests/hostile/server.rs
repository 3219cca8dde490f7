//! The server under attack, and how one gets to it: connections, requests, sessions, clients.
//!
//! On the loopback device attackers come from an address of their own, so that what the server does to an address it does to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout, timeout_at};

use crate::bystander::Bystander;
use crate::case::{Did, Skipped};
use crate::polling::{Http, Polling};
use crate::process::Process;
use crate::socket::{Opened, Socket};

/// Where attackers come from when the server is on the loopback device.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Whoever connects must be served in this time, whatever goes on.
const NEWCOMER: Duration = Duration::from_secs(10);
/// Connections that are opened at once.
const AT_ONCE: usize = 50;

/// What the kernel of an attacker takes that does not read,
const SMALL_BUFFER: u32 = 4_096;
/// and how large a segment it says it takes. On the loopback device one has 64 KB otherwise, and the sender's kernel keeps twenty of them.
const SMALL_SEGMENT: u32 = 536;

/// How much a connection receives when nothing is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receives {
    Usual,
    LittleAtOnce,
    SmallSegments,
}

/// A server, and what the command line says of it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// For the header `Host`.
    pub(crate) host: String,
    /// The path of Engine.IO.
    pub(crate) path: String,
    pub(crate) file: Option<String>,
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
            patience: Duration::from_secs(30),
            slack: 1.0,
            process,
            address,
        })
    }

    /// A connection of an attacker.
    pub(crate) async fn dial(&self) -> Result<TcpStream> {
        self.dial_from(ATTACKER, Receives::Usual).await
    }

    /// A connection from where the bystander is.
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

    /// A session by polling, in no namespace.
    pub(crate) async fn session(&self) -> Result<Polling> {
        Polling::open(self.http(), &[]).await
    }

    /// A client in namespace `/` by polling.
    pub(crate) async fn polling_client(&self) -> Result<Polling> {
        let mut polling = self.session().await?;
        polling.join().await?;
        Ok(polling)
    }

    /// A websocket with a session, in no namespace.
    pub(crate) async fn socket(&self) -> Result<Socket> {
        let mut socket = self.upgrade("", "").await?.socket()?;
        socket.hear("0{").await?;
        Ok(socket)
    }

    /// A client in namespace `/` by websocket.
    pub(crate) async fn client(&self) -> Result<Socket> {
        let mut socket = self.socket().await?;
        socket.send("40").await?;
        socket.hear("40").await?;
        Ok(socket)
    }

    /// The answer to a websocket's handshake with more in its query (`&name=value`) and more lines of header.
    pub(crate) async fn upgrade(&self, query: &str, headers: &str) -> Result<Opened> {
        let request = self.handshake(&self.query("websocket", query), headers);
        Opened::read(self.dial().await?, request.as_bytes()).await
    }

    /// A websocket's handshake with more lines of header, which may name another host.
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

    /// What comes back to these bytes on a connection of their own, until it is closed or nothing has come for a while.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Result<String> {
        const FIRST: Duration = Duration::from_secs(4);
        const MORE: Duration = Duration::from_millis(400);
        let mut stream = self.dial().await?;
        // It may be answered, and closed, before all is written.
        let _ = timeout(FIRST, stream.write_all(bytes)).await;
        let mut answer = Vec::new();
        let mut wait = FIRST;
        while let Ok(Ok(1..)) = timeout(wait, stream.read_buf(&mut answer)).await {
            wait = MORE;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// How long somebody from elsewhere takes to connect and to be echoed.
    pub(crate) async fn newcomer(&self) -> Result<Duration> {
        let begun = Instant::now();
        let echoed = async { Bystander::connect(self).await?.echo("").await };
        timeout(NEWCOMER, echoed)
            .await
            .with_context(|| format!("a newcomer is not served in {NEWCOMER:?}"))??;
        Ok(begun.elapsed())
    }

    /// The path of the file that the server gives out.
    pub(crate) fn file(&self) -> Result<&str> {
        Ok(self.file.as_deref().ok_or(Skipped("no --file is given"))?)
    }

    /// So many connections, on each of which this is written and nothing read.
    pub(crate) async fn hold(&self, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        self.hold_with(Receives::LittleAtOnce, connections, bytes).await
    }

    /// The same, where the server's kernel keeps little for them, too.
    pub(crate) async fn hold_small(&self, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        self.hold_with(Receives::SmallSegments, connections, bytes).await
    }

    async fn hold_with(&self, receives: Receives, connections: usize, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        let open = || async {
            // The kernel reads hardly anything for them either.
            let mut stream = self.dial_from(ATTACKER, receives).await?;
            // What it does not take now may wait.
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

    /// A newcomer must be served while these are held, and the server must let go of them. `files` is how many it had open before.
    pub(crate) async fn lets_go(&self, held: Vec<TcpStream>, files: Option<usize>) -> Did {
        self.lets_go_of(held.len(), files).await
    }

    /// The same of so many that somebody else holds.
    pub(crate) async fn lets_go_of(&self, held: usize, files: Option<usize>) -> Did {
        let newcomer = self.newcomer().await?;
        ensure!(
            newcomer < Duration::from_secs(1).mul_f64(self.slack),
            "a newcomer is served after {newcomer:.1?}"
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
                    "a newcomer is served after {newcomer:.0?}, and they are let go after {time:.1?}"
                ));
            }
            if begun.elapsed() > self.patience {
                let (more, patience) = (open - files, self.patience);
                bail!("{more} files of {held} connections are open after {patience:.0?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many files the server has open, if that can be seen.
    pub(crate) fn files(&self) -> Option<usize> {
        self.process.and_then(Process::files)
    }

    /// A client that sends the same again and again for so long, and reads nothing.
    pub(crate) async fn flood_unread(&self, chunk: &[u8], time: Duration) -> Did {
        let mut client = self.client().await?;
        let flood = flood(&mut client, chunk, time, false).await;
        // It stays for a moment with all that waits for it.
        sleep(Duration::from_millis(300)).await;
        Ok(flood)
    }

    /// The same, and it reads all.
    pub(crate) async fn flood(&self, chunk: &[u8], time: Duration) -> Did {
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
