//! A websocket at the level of frames: it can send malformed frames, and reads only on request.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use plugnode_tests::raw_client::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Time-out of anything expected.
const SILENCE: Duration = Duration::from_secs(4);
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// Answer to a websocket's handshake.
pub(crate) struct Opened {
    pub(crate) status: u16,
    /// The whole head, in lower case.
    pub(crate) head: String,
    stream: TcpStream,
}

/// A websocket.
pub(crate) struct Socket {
    reader: Reader,
    writer: OwnedWriteHalf,
}

/// The reading half.
pub(crate) struct Reader(BufReader<OwnedReadHalf>);

/// A message on a websocket, or its end.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    /// A Close frame, with its code.
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

impl Opened {
    /// Sends a handshake and reads the head of the answer.
    pub(crate) async fn read(mut stream: TcpStream, request: &[u8]) -> Result<Self> {
        // The server may answer and close before all is written.
        let _ = timeout(SILENCE, stream.write_all(request)).await;
        let mut head = Vec::new();
        let read = async {
            while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
                head.push(stream.read_u8().await?);
            }
            std::io::Result::Ok(())
        };
        timeout(SILENCE, read)
            .await
            .context("a handshake is not answered")?
            .context("a handshake is not answered, and its connection is closed")?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .context("no status")?;
        Ok(Self { status, head, stream })
    }

    /// Fails unless the status is one of these; `what` names the request.
    pub(crate) fn must_be(&self, statuses: &[u16], what: &str) -> Result<()> {
        ensure!(
            statuses.contains(&self.status),
            "{what} is answered with {}",
            self.status
        );
        Ok(())
    }

    /// The websocket, if the handshake succeeded.
    pub(crate) fn socket(self) -> Result<Socket> {
        self.must_be(&[101], "a websocket")?;
        let (reader, writer) = self.stream.into_split();
        let reader = Reader(BufReader::new(reader));
        Ok(Socket { reader, writer })
    }
}

impl Socket {
    /// Sends a text frame.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.write(&frame(TEXT, text.as_bytes())).await
    }

    /// Sends a binary frame.
    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(&frame(BINARY, bytes)).await
    }

    /// Writes bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.writer.write_all(bytes).await?)
    }

    /// The two halves, to read and write independently.
    pub(crate) fn halves(&mut self) -> (&mut Reader, &mut OwnedWriteHalf) {
        (&mut self.reader, &mut self.writer)
    }

    /// The next message. Answers Engine.IO's pings, not those of the websocket.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match self.reader.next().await {
                Heard::Text(text) if text == "2" => drop(self.send("3").await),
                heard => return heard,
            }
        }
    }

    /// Waits for a text with this prefix.
    pub(crate) async fn hear(&mut self, prefix: &str) -> Result<String> {
        let hear = async {
            loop {
                match self.next().await {
                    Heard::Text(text) if text.starts_with(prefix) => return Ok(text),
                    Heard::Close(code) => bail!("closed with {code:?} before `{prefix}…`"),
                    Heard::End => bail!("closed before `{prefix}…`"),
                    _ => {}
                }
            }
        };
        timeout(SILENCE, hear)
            .await
            .with_context(|| format!("no `{prefix}…` in {SILENCE:?}"))?
    }

    /// Waits for the next binary message.
    pub(crate) async fn hear_binary(&mut self) -> Result<Vec<u8>> {
        let hear = async {
            loop {
                match self.next().await {
                    Heard::Binary(bytes) => return Ok(bytes),
                    heard @ (Heard::Close(_) | Heard::End) => bail!("{heard:?} before an attachment"),
                    Heard::Text(_) => {}
                }
            }
        };
        timeout(SILENCE, hear)
            .await
            .with_context(|| format!("no attachment in {SILENCE:?}"))?
    }

    /// Sends `message-with-ack` with these arguments (JSON without brackets); returns the acknowledged array.
    pub(crate) async fn ask(&mut self, arguments: &str) -> Result<String> {
        self.send(&format!("427[\"message-with-ack\",{arguments}]")).await?;
        Ok(self.hear("437").await?["437".len()..].to_owned())
    }

    /// Fails unless the server still answers this client.
    pub(crate) async fn is_served(&mut self) -> Result<()> {
        let answer = self.ask("\"still\"").await?;
        ensure!(answer == "[\"still\"]", "`still` is answered by {answer:.100}");
        Ok(())
    }

    /// Writes these bytes and reads meanwhile, until `count` texts with this prefix have come, or none comes in time.
    pub(crate) async fn burst(&mut self, bytes: &[u8], prefix: &str, count: usize) -> Vec<String> {
        self.burst_of(bytes, |text| text.starts_with(prefix), count).await
    }

    /// Sends a burst, and counts only texts that match a predicate.
    pub(crate) async fn burst_of(&mut self, bytes: &[u8], is_one: impl Fn(&str) -> bool, count: usize) -> Vec<String> {
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        // A close in between shows in the texts received.
        let write = async { drop(writer.write_all(bytes).await) };
        let read = reader.gather(is_one, count);
        let mut read = std::pin::pin!(read);
        tokio::select! {
            got = &mut read => got,
            () = write => read.await,
        }
    }

    /// Waits for the end; returns the code of the Close frame, if there was one.
    pub(crate) async fn closed(&mut self) -> Result<Option<u16>> {
        let close = async {
            loop {
                match self.next().await {
                    Heard::Close(code) => return code,
                    Heard::End => return None,
                    _ => {}
                }
            }
        };
        timeout(SILENCE, close)
            .await
            .with_context(|| format!("not closed in {SILENCE:?}"))
    }

    /// Waits until the connection is closed or a further request is answered; returns which.
    pub(crate) async fn closed_or_served(&mut self) -> Result<&'static str> {
        // A close is detected below.
        let _ = self.send("429[\"message-with-ack\",\"after\"]").await;
        let hear = async {
            loop {
                match self.next().await {
                    Heard::Text(text) if text.starts_with("439[\"after\"]") => return "served",
                    Heard::Close(_) | Heard::End => return "closed",
                    _ => {}
                }
            }
        };
        timeout(SILENCE, hear)
            .await
            .with_context(|| format!("neither closed nor served in {SILENCE:?}"))
    }

    /// Closes with a TCP reset.
    pub(crate) fn reset(self) {
        if let Ok(stream) = self.reader.0.into_inner().reunite(self.writer) {
            let _ = stream.set_zero_linger();
        }
    }
}

impl Reader {
    /// The next message, pings included.
    pub(crate) async fn next(&mut self) -> Heard {
        self.frame().await.unwrap_or(Heard::End)
    }

    /// Reads until `count` matching texts have come, or none comes in time.
    async fn gather(&mut self, is_one: impl Fn(&str) -> bool, count: usize) -> Vec<String> {
        let mut got = Vec::new();
        while got.len() < count {
            match timeout(SILENCE, self.next()).await {
                Ok(Heard::Text(text)) if is_one(&text) => got.push(text),
                Ok(Heard::Close(_) | Heard::End) | Err(_) => break,
                Ok(_) => {}
            }
        }
        got
    }

    /// Reads and discards to the end.
    pub(crate) async fn drain(&mut self) {
        let mut buffer = vec![0; 65_536];
        while let Ok(1..) = self.0.read(&mut buffer).await {}
    }

    async fn frame(&mut self) -> std::io::Result<Heard> {
        loop {
            let kind = self.0.read_u8().await?;
            let length = match self.0.read_u8().await? {
                126 => self.0.read_u16().await?.into(),
                127 => self.0.read_u64().await?,
                short => short.into(),
            };
            let mut content = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
            self.0.read_exact(&mut content).await?;
            match kind & 0x0f {
                1 => return Ok(Heard::Text(String::from_utf8_lossy(&content).into_owned())),
                2 => return Ok(Heard::Binary(content)),
                8 => {
                    return Ok(Heard::Close(
                        content.first_chunk().map(|code| u16::from_be_bytes(*code)),
                    ));
                }
                _ => {}
            }
        }
    }
}
