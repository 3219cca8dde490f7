//! A client in one namespace, with untyped events.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::Value;
use sioc::prelude::*;
use url::Url;

/// Time-out of anything expected.
const LIMIT: Duration = Duration::from_secs(10);

/// Transport of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Websocket,
    /// Polling first, upgraded when the server offers it.
    Polling,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Websocket => "websocket",
            Self::Polling => "polling, upgraded",
        })
    }
}

/// A connected client.
pub(crate) struct TestClient {
    sender: SocketSender,
    receiver: SocketReceiver,
    /// Its session id.
    pub(crate) id: String,
    // Dropping it closes the connection.
    _client: Client,
}

/// A received event.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    /// Name and arguments.
    pub(crate) payload: Value,
    pub(crate) attachments: Vec<Bytes>,
}

impl TestClient {
    /// Connects to a namespace with `auth` as JSON text, empty by default. The error is the server's.
    pub(crate) async fn connect(url: &str, by: By, namespace: &str, auth: &str) -> Result<Self> {
        let by = match by {
            By::Websocket => TransportStrategy::WebSocket,
            By::Polling => TransportStrategy::Polling,
        };
        let client = ClientBuilder::new(Url::parse(url)?).transport(by).open()?;
        let (sender, mut receiver) = client.connect_with(namespace.to_owned(), auth.to_owned()).await?;
        match next(&mut receiver).await? {
            Signal::Connect(connected) => Ok(Self {
                sender,
                receiver,
                id: connected.sid.to_string(),
                _client: client,
            }),
            Signal::ConnectError(error) => bail!("refused: {error}"),
            other => bail!("{other} came instead of a connect packet"),
        }
    }

    /// Emits an event.
    pub(crate) async fn emit<E, A, B>(&self, event: E) -> Result<E::Output>
    where
        E: Emit<A, B>,
        A: AckMarker,
        B: BinaryMarker,
    {
        Ok(self.sender.emit(event).await?)
    }

    /// Emits an event and returns its acknowledgement.
    pub(crate) async fn ask<T, E, A, B>(&self, event: E) -> Result<Ack<T>>
    where
        T: AckType + DeserializePayload,
        E: Emit<A, B, Output = AckHandle<T>>,
        A: AckMarker,
        B: BinaryMarker,
    {
        Ok(self.sender.emit(event).await?.timeout(LIMIT).await?)
    }

    /// The next event.
    pub(crate) async fn heard(&mut self) -> Result<Heard> {
        match next(&mut self.receiver).await? {
            Signal::Event(event) => Ok(Heard {
                payload: serde_json::from_str(&event.payload)?,
                attachments: event.attachments.unwrap_or_default(),
            }),
            other => bail!("{other} came instead of an event"),
        }
    }

    /// Waits until it is disconnected by the server.
    pub(crate) async fn disconnected(&mut self) -> Result<()> {
        match next(&mut self.receiver).await? {
            Signal::Disconnect => Ok(()),
            other => bail!("{other} came instead of a disconnect packet"),
        }
    }

    /// Leaves the namespace.
    pub(crate) async fn leave(&self) {
        self.sender.disconnect().await;
    }
}

async fn next(receiver: &mut SocketReceiver) -> Result<Signal> {
    let signal = tokio::time::timeout(LIMIT, receiver.recv()).await;
    signal
        .context("nothing was heard in time")?
        .context("the connection ended")
}
