//! A Socket.IO client over a websocket: small, so that a test can hold thousands, and strict about what it receives.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{Node, within};

/// One client in one namespace.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: String,
    id: String,
    acks: u64,
    heard: VecDeque<Heard>,
}

/// A message to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event, with the number to acknowledge it by if it asks for an acknowledgement.
    Event(String, Vec<Value>, Option<u64>),
    /// An acknowledgement of the event of that number.
    Ack(u64, Vec<Value>),
    /// The server disconnected the client from the namespace.
    Disconnected,
    /// The connection ended.
    Closed,
}

/// A refused connection: the `connect_error`.
#[derive(Debug)]
pub struct Refused(pub Value);

impl Client {
    /// Connects to namespace `/`.
    pub async fn connect(node: &Node) -> Self {
        Self::connect_to(node, "/", json!({}))
            .await
            .expect("the namespace takes clients")
    }

    /// Connects to a namespace, with `auth`.
    pub async fn connect_to(node: &Node, namespace: &str, auth: Value) -> Result<Self, Refused> {
        within("a client connects", Self::open(node.port(), namespace, auth))
            .await
            .expect("the node speaks Socket.IO")
    }

    /// Connects, and returns why when it cannot.
    pub async fn open(port: u16, namespace: &str, auth: Value) -> anyhow::Result<Result<Self, Refused>> {
        Self::open_with(port, "", namespace, auth).await
    }

    /// The same with more query parameters.
    pub async fn open_with(
        port: u16,
        query: &str,
        namespace: &str,
        auth: Value,
    ) -> anyhow::Result<Result<Self, Refused>> {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket&{query}");
        let (mut socket, _) = connect_async(url).await.context("the websocket does not open")?;
        let open = text(&mut socket).await?;
        if !open.starts_with('0') {
            bail!("expected the open packet, got {open:?}");
        }
        socket
            .send(Message::text(format!("40{}{auth}", prefix(namespace))))
            .await?;
        loop {
            let packet = text(&mut socket).await?;
            if packet == "2" {
                socket.send(Message::text("3")).await?;
            } else if let Some(rest) = packet.strip_prefix("40") {
                let connected: Value = serde_json::from_str(after_namespace(rest))?;
                let id = connected["sid"]
                    .as_str()
                    .context("no sid in the connect packet")?
                    .to_owned();
                let (namespace, heard) = (namespace.to_owned(), VecDeque::new());
                return Ok(Ok(Self {
                    socket,
                    namespace,
                    id,
                    acks: 0,
                    heard,
                }));
            } else if let Some(rest) = packet.strip_prefix("44") {
                return Ok(Err(Refused(serde_json::from_str(after_namespace(rest))?)));
            } else {
                bail!("expected the connect packet, got {packet:?}");
            }
        }
    }

    /// Its session id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event.
    pub async fn emit(&mut self, event: &str, args: &[Value]) {
        let packet = format!("42{}{}", prefix(&self.namespace), array(event, args));
        self.send(packet).await;
    }

    /// Emits an event that asks for an acknowledgement; returns its number.
    pub async fn emit_with_ack(&mut self, event: &str, args: &[Value]) -> u64 {
        let number = self.acks;
        self.acks += 1;
        let packet = format!("42{}{number}{}", prefix(&self.namespace), array(event, args));
        self.send(packet).await;
        number
    }

    /// Emits an event and waits for its acknowledgement. Anything else that arrives meanwhile stays in the queue.
    pub async fn ask(&mut self, event: &str, args: &[Value]) -> Vec<Value> {
        let number = self.emit_with_ack(event, args).await;
        let mut others = VecDeque::new();
        loop {
            match self.next().await {
                Heard::Ack(ack, args) if ack == number => {
                    others.append(&mut self.heard);
                    self.heard = others;
                    return args;
                }
                Heard::Closed => panic!("the connection ended before {event:?} was acknowledged"),
                other => others.push_back(other),
            }
        }
    }

    /// Acknowledges an event.
    pub async fn acknowledge(&mut self, number: u64, args: &[Value]) {
        self.send(format!("43{}{number}{}", prefix(&self.namespace), json!(args)))
            .await;
    }

    /// Sends a packet as it is.
    pub async fn send(&mut self, packet: String) {
        // A closed connection shows at the next read.
        let _ = self.socket.send(Message::text(packet)).await;
    }

    /// The next packet; after [`Heard::Closed`] there is nothing more.
    pub async fn next(&mut self) -> Heard {
        match self.heard.pop_front() {
            Some(heard) => heard,
            None => within("a client receives something", self.listen()).await,
        }
    }

    /// The next packet, which must be an event.
    pub async fn event(&mut self) -> (String, Vec<Value>) {
        match self.next().await {
            Heard::Event(event, args, _) => (event, args),
            other => panic!("expected an event, got {other:?}"),
        }
    }

    async fn listen(&mut self) -> Heard {
        loop {
            let Ok(packet) = text(&mut self.socket).await else {
                return Heard::Closed;
            };
            if packet == "2" {
                self.send("3".into()).await;
                continue;
            }
            if let Some(heard) = read(&packet) {
                return heard;
            }
        }
    }
}

/// Parses a Socket.IO packet; none for packets that tests do not need.
fn read(packet: &str) -> Option<Heard> {
    let rest = |kind| packet.strip_prefix(kind).map(after_namespace);
    if rest("41").is_some() {
        return Some(Heard::Disconnected);
    }
    let (rest, is_event) = rest("42")
        .map(|rest| (rest, true))
        .or(rest("43").map(|rest| (rest, false)))?;
    let start = rest.find('[').unwrap_or_else(|| panic!("no array in {packet:?}"));
    // JavaScript servers write large numbers as doubles.
    let number = rest[..start].parse().ok().map(|number: f64| number as u64);
    let args: Result<Vec<Value>, _> = serde_json::from_str(&rest[start..]);
    let mut args = args.unwrap_or_else(|error| panic!("no JSON in {packet:.100}: {error}"));
    if !is_event {
        return Some(Heard::Ack(number.expect("an acknowledgement has a number"), args));
    }
    let event = args.remove(0).as_str().expect("an event has a name").to_owned();
    Some(Heard::Event(event, args, number))
}

async fn text(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> anyhow::Result<String> {
    loop {
        match socket.next().await.context("the connection ended")?? {
            Message::Text(text) => return Ok(text.to_string()),
            Message::Close(_) => bail!("the connection was closed"),
            _ => {}
        }
    }
}

fn prefix(namespace: &str) -> String {
    if namespace == "/" {
        String::new()
    } else {
        format!("{namespace},")
    }
}

fn after_namespace(rest: &str) -> &str {
    match rest.strip_prefix('/') {
        Some(named) => named.split_once(',').map_or("", |(_, rest)| rest),
        None => rest,
    }
}

fn array(event: &str, args: &[Value]) -> Value {
    let mut items = vec![json!(event)];
    items.extend_from_slice(args);
    Value::Array(items)
}
