//! A minimal client over a TCP connection: a test can hold ten thousand of them, and each can send arbitrary bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Number of local addresses that connections come from in turn: one has too few ports for a thousand connections a second.
const ADDRESSES: usize = 8;
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A TCP connection to a node.
pub struct RawClient(TcpStream);

impl RawClient {
    /// Opens a TCP connection; `number` selects the local address.
    pub async fn dial(port: u16, number: usize) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let from = u8::try_from(2 + number % ADDRESSES).expect("there are few addresses");
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, from], 0).into())?;
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Opens a WebSocket.
    pub async fn open(port: u16, number: usize) -> io::Result<Self> {
        let mut bare = Self::dial(port, number).await?;
        bare.write(UPGRADE.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(bare.0.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        Ok(bare)
    }

    /// Opens a WebSocket and joins namespace `/`.
    pub async fn client(port: u16, number: usize) -> io::Result<Self> {
        let mut bare = Self::open(port, number).await?;
        bare.send("40").await?;
        bare.hear("40{").await?;
        Ok(bare)
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(&frame(0x81, text.as_bytes())).await
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Waits for a frame that starts with `beginning`, answering pings, and returns its length.
    pub async fn hear(&mut self, beginning: &str) -> io::Result<usize> {
        loop {
            let (kind, content) = self.frame().await?;
            if content.starts_with(beginning.as_bytes()) {
                return Ok(content.len());
            }
            match (kind & 0x0f, &content[..]) {
                (8, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
                (1, b"2") => self.send("3").await?,
                _ => {}
            }
        }
    }

    /// Waits for a binary frame that contains `part`, answering pings.
    pub async fn hear_binary(&mut self, part: &[u8]) -> io::Result<()> {
        loop {
            match self.frame().await? {
                (0x82, content) if content.windows(part.len()).any(|window| window == part) => return Ok(()),
                (0x81, content) if content == b"2" => self.send("3").await?,
                (0x88, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    /// Reads and discards for `time` or until the end.
    pub async fn read_for(&mut self, time: Duration) {
        let mut buffer = [0; 4_096];
        let read = async { while matches!(self.0.read(&mut buffer).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(time, read).await;
    }

    /// Reads to the end.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        self.0.read_to_end(&mut read).await?;
        Ok(read)
    }

    /// Closes with a TCP reset.
    pub fn reset(self) {
        let _ = self.0.set_zero_linger();
    }

    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await?;
        let length = match self.0.read_u8().await? {
            126 => self.0.read_u16().await?.into(),
            127 => self.0.read_u64().await?,
            short => short.into(),
        };
        let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.0.read_exact(&mut content).await?;
        Ok((kind, content))
    }
}

/// A client's frame, masked with zeros.
pub fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        long @ 126..65_536 => [&[0xfe], &(long as u16).to_be_bytes()[..]].concat(),
        long => [&[0xff], &(long as u64).to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], &[0; 4], content].concat()
}
