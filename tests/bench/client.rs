//! A Socket.IO client that costs next to nothing: a connection, what came by it, and what waits to be written.
//!
//! Ten thousand of them fit in this process beside the servers. It speaks raw WebSocket, hands out texts where they lie in
//! its buffer, answers pings, and knows nothing of what the texts say.

use std::io;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Server;
use crate::text::frame;

/// Clients that connect at the same moment.
pub(crate) const AT_ONCE: usize = 100;
/// Local addresses that connections come from in turn, as one has too few ports for round after round of them.
const ADDRESSES: usize = 8;
const UPGRADE: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Room for what comes when a client connects; it grows with what comes later,
const SMALLEST: usize = 512;
/// up to this.
const LARGEST: usize = 64 << 10;

/// A client in namespace `/`.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What is in the buffer and has not been handed out.
    unread: Range<usize>,
    unwritten: Vec<u8>,
}

/// Connects so many clients, and waits until each has its session id.
pub(crate) async fn connect(server: &Server, clients: usize) -> io::Result<Vec<Client>> {
    stream::iter(0..clients)
        .map(|number| Client::connect(server.port(number), number))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

impl Client {
    /// Connects. `number` tells where from.
    pub(crate) async fn connect(port: u16, number: usize) -> io::Result<Self> {
        let mut client = Self::upgrade(port, number).await?;
        client.send(&frame(b"40"))?;
        loop {
            let text = client.text().await?;
            if text.starts_with(b"40{") {
                return Ok(client);
            }
            if text.starts_with(b"4") {
                return Err(strange(text));
            }
        }
    }

    async fn upgrade(port: u16, number: usize) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let from = u8::try_from(2 + number % ADDRESSES).expect("there are few addresses");
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, from], 0).into())?;
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
        stream.set_nodelay(true)?;
        stream.write_all(UPGRADE).await?;
        let mut client = Self {
            stream,
            buffer: vec![0; SMALLEST],
            unread: 0..0,
            unwritten: Vec::new(),
        };
        loop {
            let head = &client.buffer[client.unread.clone()];
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101") {
                    return Err(strange(head));
                }
                client.unread.start += end + 4;
                return Ok(client);
            }
            client.read().await?;
        }
    }

    /// Sends a frame. What the connection does not take at once goes out while the client waits for the next text.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if !self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(frame);
            return Ok(());
        }
        let written = written(self.stream.try_write(frame))?;
        self.unwritten.extend_from_slice(&frame[written..]);
        Ok(())
    }

    /// The next text that is not a ping. Nothing is lost when this is dropped while it waits.
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
                (_, odd) => return Err(strange(odd)),
            }
        }
    }

    /// Takes a whole frame from the buffer, if there is one: its first byte, and where its content is.
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
        // It came full, so there is more than it holds.
        if self.unread.end == self.buffer.len() && self.buffer.len() < LARGEST {
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
        // A frame that is larger than the buffer.
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

fn strange(text: &[u8]) -> io::Error {
    io::Error::other(format!("the server says {:?}", String::from_utf8_lossy(text)))
}
