//! A Socket.IO client with very little overhead: a connection, a read buffer, and a write buffer.
//!
//! Ten thousand of them fit in this process beside the servers. It speaks raw WebSocket, returns texts as slices of its
//! buffer, answers pings, and does not interpret the texts.

use std::io;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

use crate::numbered_text::frame;
use crate::server::Server;

/// Clients that connect at the same time.
pub(crate) const MAX_CONNECTING: usize = 100;
/// Local addresses used in turn, because one has too few ports for all rounds.
const ADDRESSES: usize = 8;
const UPGRADE: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Initial size of the read buffer, enough for the handshake.
const MIN_BUFFER: usize = 512;
/// Size up to which a read buffer grows when it is filled by one read.
const MAX_BUFFER: usize = 64 << 10;

/// A client in namespace `/`.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of the buffer that is not returned yet.
    unread: Range<usize>,
    unwritten: Vec<u8>,
}

/// Connects clients, and waits until each has its session id.
pub(crate) async fn connect(server: &Server, clients: usize) -> io::Result<Vec<Client>> {
    stream::iter(0..clients)
        .map(|number| Client::connect(server.port(number), number))
        .buffered(MAX_CONNECTING)
        .try_collect()
        .await
}

impl Client {
    /// Connects, from a local address chosen by `number`.
    pub(crate) async fn connect(port: u16, number: usize) -> io::Result<Self> {
        let mut client = Self::upgrade(port, number).await?;
        client.send(&frame(b"40"))?;
        loop {
            let text = client.text().await?;
            if text.starts_with(b"40{") {
                return Ok(client);
            }
            if text.starts_with(b"4") {
                return Err(unexpected(text));
            }
        }
    }

    async fn upgrade(port: u16, number: usize) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let from = u8::try_from(2 + number % ADDRESSES).expect("the address fits into a byte");
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, from], 0).into())?;
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
        stream.set_nodelay(true)?;
        stream.write_all(UPGRADE).await?;
        let mut client = Self {
            stream,
            buffer: vec![0; MIN_BUFFER],
            unread: 0..0,
            unwritten: Vec::new(),
        };
        loop {
            let head = &client.buffer[client.unread.clone()];
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101") {
                    return Err(unexpected(head));
                }
                client.unread.start += end + 4;
                return Ok(client);
            }
            client.read().await?;
        }
    }

    /// Sends a frame. Bytes that the connection does not take at once are written while the client waits for the next text.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if !self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(frame);
            return Ok(());
        }
        let written = written(self.stream.try_write(frame))?;
        self.unwritten.extend_from_slice(&frame[written..]);
        Ok(())
    }

    /// The next text that is not a ping. Cancellation safe.
    pub(crate) async fn text(&mut self) -> io::Result<&[u8]> {
        loop {
            let Some((kind, content)) = self.frame() else {
                self.read().await?;
                continue;
            };
            match (kind, &self.buffer[content.clone()]) {
                (0x81, b"2") => self.send(&frame(b"3"))?,
                (0x81, _) => return Ok(&self.buffer[content]),
                (0x88, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
                (_, odd) => return Err(unexpected(odd)),
            }
        }
    }

    /// Takes a complete frame from the buffer: its first byte, and the range of its payload.
    fn frame(&mut self) -> Option<(u8, Range<usize>)> {
        let unread = &self.buffer[self.unread.clone()];
        let (head, length) = match *unread.get(1)? {
            126 => (4, u16::from_be_bytes(unread.get(2..4)?.try_into().ok()?).into()),
            127 => (10, u64::from_be_bytes(unread.get(2..10)?.try_into().ok()?)),
            short => (2, short.into()),
        };
        let end = head + usize::try_from(length).ok()?;
        let kind = unread[0];
        if unread.len() < end {
            return None;
        }
        let content = self.unread.start + head..self.unread.start + end;
        self.unread.start = content.end;
        Some((kind, content))
    }

    /// Reads more, and writes what still waits for it.
    async fn read(&mut self) -> io::Result<()> {
        self.make_room();
        let room = self.unread.end..;
        let read = if self.unwritten.is_empty() {
            self.stream.read(&mut self.buffer[room]).await
        } else {
            self.stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
            let written = written(self.stream.try_write(&self.unwritten))?;
            self.unwritten.drain(..written);
            match self.stream.try_read(&mut self.buffer[room]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                read => read,
            }
        };
        match read? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => self.unread.end += read,
        }
        // The read filled the buffer, so there is probably more.
        if self.unread.end == self.buffer.len() && self.buffer.len() < MAX_BUFFER {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        if self.unread.end < self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        // The frame is larger than the buffer.
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

fn written(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

fn unexpected(text: &[u8]) -> io::Error {
    io::Error::other(format!(
        "unexpected answer of the server: {:?}",
        String::from_utf8_lossy(text)
    ))
}
