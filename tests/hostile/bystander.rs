//! The bystander: a well-behaved client on the same server that requests an echo twice a second and records the longest wait.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::server::Server;

const PACE: Duration = Duration::from_millis(500);
/// Time-out of an echo.
const LOST: Duration = Duration::from_secs(15);

/// A client in namespace `/`.
pub(crate) struct Bystander {
    socket: WebSocketStream<TcpStream>,
    echoes: u64,
    worst: Duration,
}

/// A bystander that requests echoes in the background.
pub(crate) struct RunningBystander {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Duration>>,
}

impl Bystander {
    /// Connects.
    pub(crate) async fn connect(server: &Server) -> Result<Self> {
        let stream = server.dial_bystander().await?;
        let url = format!("ws://{}{}?EIO=4&transport=websocket", server.host, server.path);
        let (socket, _) = client_async(url, stream).await?;
        let mut bystander = Self {
            socket,
            echoes: 0,
            worst: Duration::ZERO,
        };
        bystander.socket.send(Message::text("40")).await?;
        bystander.hear("40").await?;
        Ok(bystander)
    }

    /// Requests one echo; returns how long it took.
    pub(crate) async fn echo(&mut self, text: &str) -> Result<Duration> {
        let number = self.echoes;
        self.echoes += 1;
        let begun = Instant::now();
        let packet = format!("42{number}[\"message-with-ack\",{number},\"{text}\"]");
        self.socket.send(Message::text(packet)).await?;
        timeout(LOST, self.hear(&format!("43{number}[")))
            .await
            .with_context(|| format!("an echo did not come in {LOST:?}"))??;
        self.worst = self.worst.max(begun.elapsed());
        Ok(begun.elapsed())
    }

    /// Requests echoes in the background until it is stopped, and one more then.
    pub(crate) fn start(mut self) -> RunningBystander {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = interval(PACE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => drop(self.echo("").await?),
                    // Answers pings between echoes.
                    message = self.socket.next() => drop(self.read(message).await?),
                    _ = &mut stopped => break,
                }
            }
            self.echo("").await?;
            Ok(self.worst)
        });
        RunningBystander { stop, task }
    }

    async fn hear(&mut self, prefix: &str) -> Result<()> {
        loop {
            let message = self.socket.next().await;
            if self.read(message).await?.is_some_and(|text| text.starts_with(prefix)) {
                return Ok(());
            }
        }
    }

    /// The text of a message; answers pings.
    async fn read(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<Option<String>> {
        match message.context("the connection ended")?? {
            Message::Text(text) if text.as_str() == "2" => {
                self.socket.send(Message::text("3")).await?;
                Ok(None)
            }
            Message::Text(text) => Ok(Some(text.to_string())),
            Message::Close(_) => bail!("the connection was closed"),
            _ => Ok(None),
        }
    }
}

impl RunningBystander {
    /// Stops it; returns the longest echo, or why one failed.
    pub(crate) async fn stop(self) -> Result<Duration> {
        let _ = self.stop.send(());
        self.task.await.context("the bystander failed")?
    }
}
