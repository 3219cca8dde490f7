//! A Socket.IO client over a websocket for the checker: returns errors instead of panicking, detects a silent server, and supports
//! attachments.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Time-out of connecting.
const CONNECTING: Duration = Duration::from_secs(10);
/// Time-out of leaving.
const LEAVING: Duration = Duration::from_secs(2);

/// A connected client.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: String,
    id: String,
    /// Longest silence: ping interval and ping time-out together.
    silence: Duration,
    heard_at: Instant,
    pong_due: bool,
    /// A packet that waits for its attachments.
    partial: Option<Partial>,
}

struct Partial {
    packet: Packet,
    bytes: Vec<Bytes>,
    missing: usize,
}

/// A packet from the server.
#[derive(Debug, PartialEq)]
pub(super) enum Packet {
    /// An event, with its attachments.
    Event(String, Vec<Value>, Vec<Bytes>),
    /// The acknowledgement of the event with that number.
    Ack(u64, Vec<Value>),
    /// The server disconnected the client.
    Disconnect,
}

/// An io-node to connect to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Host and port of the io-node.
    pub(super) authority: String,
    url: String,
    namespace: String,
}

impl Target {
    /// From `http://host:port`.
    pub(super) fn new(url: &str, path: &str, namespace: &str) -> Result<Self> {
        let authority = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest.trim_end_matches('/'),
            Some(("https" | "wss", _)) => {
                bail!("{url}: this client does not support TLS; give the io-node's own http:// URL")
            }
            _ => bail!("{url} is not a URL such as http://127.0.0.1:8080"),
        };
        let path = path.trim_matches('/');
        Ok(Self {
            authority: authority.to_owned(),
            url: format!("ws://{authority}/{path}/?EIO=4&transport=websocket"),
            namespace: namespace.to_owned(),
        })
    }
}

/// All targets. Clones share the list.
#[derive(Clone, Default)]
pub(super) struct Targets(Arc<RwLock<Vec<Target>>>);

impl Targets {
    pub(super) fn add(&self, target: Target) {
        self.0.write().expect("no holder of this lock panics").push(target);
    }

    /// The target of this turn, round robin. The list must not be empty.
    pub(super) fn at(&self, turn: usize) -> Target {
        let targets = self.0.read().expect("no holder of this lock panics");
        targets[turn % targets.len()].clone()
    }
}

impl Socket {
    /// Connects to the namespace.
    pub(super) async fn connect(to: &Target, auth: &Value) -> Result<Self> {
        let connecting = timeout(CONNECTING, Self::open(to, auth)).await;
        connecting.map_err(|_| anyhow!("{} does not answer", to.url))?
    }

    async fn open(to: &Target, auth: &Value) -> Result<Self> {
        let (stream, _) = connect_async(&to.url)
            .await
            .with_context(|| format!("cannot connect to {}", to.url))?;
        let mut socket = Self {
            stream,
            namespace: to.namespace.clone(),
            id: String::new(),
            silence: CONNECTING,
            heard_at: Instant::now(),
            pong_due: false,
            partial: None,
        };
        let open = socket.frame().await?.into_text()?;
        let open: Value = match open.strip_prefix('0') {
            Some(open) => serde_json::from_str(open)?,
            None => bail!("expected the open packet, got {open:.100}"),
        };
        let milliseconds = |name: &str| open[name].as_u64().context("an interval is missing in the open packet");
        socket.silence = Duration::from_millis(milliseconds("pingInterval")? + milliseconds("pingTimeout")?);
        socket.send(format!("40{}{auth}", socket.prefix())).await?;
        loop {
            let text = socket.frame().await?.into_text()?;
            if text == "2" {
                socket.send("3".into()).await?;
            } else if let Some(rest) = text.strip_prefix("40") {
                let answer: Value = serde_json::from_str(without_namespace(rest))?;
                let id = answer["sid"].as_str().context("no sid in the connect packet")?;
                id.clone_into(&mut socket.id);
                return Ok(socket);
            } else if let Some(rest) = text.strip_prefix("44") {
                bail!(
                    "namespace {} refuses clients: {}",
                    to.namespace,
                    without_namespace(rest)
                );
            } else {
                bail!("expected the connect packet, got {text:.100}");
            }
        }
    }

    /// Its session id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event: with an acknowledgement number if `ack` is given, and with an attachment as last argument if `bytes` are.
    pub(super) async fn emit(
        &mut self,
        event: &str,
        args: &Value,
        ack: Option<u64>,
        bytes: Option<&[u8]>,
    ) -> Result<()> {
        let mut items = vec![json!(event)];
        items.extend(args.as_array().into_iter().flatten().cloned());
        let kind = match bytes {
            Some(_) => {
                items.push(json!({ "_placeholder": true, "num": 0 }));
                "451-"
            }
            None => "42",
        };
        let ack = ack.map(|number| number.to_string()).unwrap_or_default();
        let packet = format!("{kind}{}{ack}{}", self.prefix(), Value::Array(items));
        self.send(packet).await?;
        if let Some(bytes) = bytes {
            self.stream.send(Message::binary(bytes.to_vec())).await?;
        }
        Ok(())
    }

    /// The next packet. Cancel safe.
    ///
    /// # Errors
    /// When the connection has ended, or the server has been silent for longer than its ping interval and time-out.
    pub(super) async fn next(&mut self) -> Result<Packet> {
        loop {
            if self.pong_due {
                self.send("3".into()).await?;
                self.pong_due = false;
            }
            match self.frame().await? {
                Message::Text(text) if text == "2" => self.pong_due = true,
                Message::Text(text) => {
                    if let Some(packet) = self.read(&text)? {
                        return Ok(packet);
                    }
                }
                Message::Binary(bytes) => {
                    let Some(mut partial) = self.partial.take() else {
                        bail!("an attachment came without a packet");
                    };
                    partial.bytes.push(bytes);
                    partial.missing -= 1;
                    if partial.missing > 0 {
                        self.partial = Some(partial);
                        continue;
                    }
                    return Ok(match partial.packet {
                        Packet::Event(event, args, _) => Packet::Event(event, args, partial.bytes),
                        other => other,
                    });
                }
                _ => {}
            }
        }
    }

    /// Leaves the namespace and closes the connection.
    pub(super) async fn leave(mut self) {
        let leaving = async {
            self.send(format!("41{}", self.prefix())).await?;
            self.stream.close(None).await?;
            // Read to the end: closing with unread bytes would reset the connection and drop what was just sent.
            while self.frame().await.is_ok() {}
            anyhow::Ok(())
        };
        // An unreachable server treats it as a lost connection.
        let _ = timeout(LEAVING, leaving).await;
    }

    async fn send(&mut self, packet: String) -> Result<()> {
        Ok(self.stream.send(Message::text(packet)).await?)
    }

    async fn frame(&mut self) -> Result<Message> {
        let frame = timeout_at(self.heard_at + self.silence, self.stream.next()).await;
        let frame = frame.map_err(|_| anyhow!("the server has been silent for {:?}", self.silence))?;
        self.heard_at = Instant::now();
        match frame.context("the connection ended")?? {
            Message::Close(_) => bail!("the server closed the connection"),
            message => Ok(message),
        }
    }

    fn read(&mut self, packet: &str) -> Result<Option<Packet>> {
        let Some(kind) = packet.get(..2) else { return Ok(None) };
        let rest = &packet[2..];
        let (missing, rest) = match kind {
            "41" => return Ok(Some(Packet::Disconnect)),
            "42" | "43" => (0, rest),
            "45" | "46" => {
                let (count, rest) = rest.split_once('-').context("a binary packet without a count")?;
                (count.parse().context("a binary packet without a count")?, rest)
            }
            _ => return Ok(None),
        };
        let rest = without_namespace(rest);
        let start = rest.find('[').with_context(|| format!("no array in {packet:.100}"))?;
        let number = rest[..start].parse().ok();
        let mut args: Vec<Value> =
            serde_json::from_str(&rest[start..]).with_context(|| format!("no JSON in {packet:.100}"))?;
        let packet = match kind {
            "43" | "46" => Packet::Ack(number.context("an acknowledgement without a number")?, args),
            _ if args.is_empty() => bail!("an event without a name"),
            _ => {
                let event = args.remove(0);
                let event = event.as_str().context("an event without a name")?;
                Packet::Event(event.to_owned(), args, Vec::new())
            }
        };
        if missing == 0 {
            return Ok(Some(packet));
        }
        let bytes = Vec::with_capacity(missing);
        self.partial = Some(Partial { packet, bytes, missing });
        Ok(None)
    }

    fn prefix(&self) -> String {
        match self.namespace.as_str() {
            "/" => String::new(),
            namespace => format!("{namespace},"),
        }
    }
}

fn without_namespace(rest: &str) -> &str {
    match rest.starts_with('/') {
        true => rest.split_once(',').map_or("", |(_, rest)| rest),
        false => rest,
    }
}
