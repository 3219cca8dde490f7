//! Reads the cluster's records of clients. Reconnects, to the next io-node each time, until it has an answer.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::history::Record;
use super::socket::{Packet, Socket, Targets};

/// Most clients in one request.
const BATCH: usize = 200;
/// Time-out of one request before another io-node is asked.
const ANSWER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// A client that reads records and counters.
pub(super) struct Inspector {
    targets: Targets,
    turn: usize,
    socket: Option<Socket>,
    questions: u64,
}

impl Inspector {
    pub(super) fn new(targets: Targets) -> Self {
        Self {
            targets,
            turn: 0,
            socket: None,
            questions: 0,
        }
    }

    /// The records of these clients.
    ///
    /// # Errors
    /// When the cluster does not answer before the deadline.
    pub(super) async fn records(&mut self, ids: &[String], deadline: Instant) -> Result<HashMap<String, Record>> {
        let mut records = HashMap::new();
        for batch in ids.chunks(BATCH) {
            let answer = self.ask("records", &json!([batch]), deadline).await?;
            let answer: Vec<Option<Record>> = serde_json::from_value(answer)
                .context("the answer to `records` is not that of the handler `recorder`")?;
            let pairs = batch.iter().cloned().zip(answer);
            records.extend(pairs.filter_map(|(id, record)| Some((id, record?))));
        }
        Ok(records)
    }

    /// The values of shared counters.
    ///
    /// # Errors
    /// When the cluster does not answer before the deadline.
    pub(super) async fn counters(&mut self, names: &[String], deadline: Instant) -> Result<Vec<u64>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.ask("counters", &json!([names]), deadline).await?;
        let values: Vec<Option<u64>> =
            serde_json::from_value(answer).context("the answer to `counters` is not that of the handler `recorder`")?;
        Ok(values.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Deletes shared counters.
    pub(super) async fn forget_counters(&mut self, names: &[String], deadline: Instant) -> Result<()> {
        if !names.is_empty() {
            self.ask("forget-counters", &json!([names]), deadline).await?;
        }
        Ok(())
    }

    /// Deletes the records of these clients.
    pub(super) async fn forget(&mut self, ids: &[String], deadline: Instant) -> Result<()> {
        for batch in ids.chunks(BATCH) {
            self.ask("forget", &json!([batch]), deadline).await?;
        }
        Ok(())
    }

    /// Disconnects.
    pub(super) async fn end(self) {
        if let Some(socket) = self.socket {
            socket.leave().await;
        }
    }

    /// Asks until there is an answer. Requests are idempotent.
    async fn ask(&mut self, event: &str, args: &Value, deadline: Instant) -> Result<Value> {
        loop {
            let asked = match timeout_at(deadline, timeout(ANSWER, self.ask_once(event, args))).await {
                Ok(Ok(asked)) => asked,
                Ok(Err(_)) => Err(anyhow::anyhow!("the cluster does not answer `{event}`")),
                Err(_) => bail!("the cluster did not answer `{event}` in time"),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() + PAUSE >= deadline => return Err(error),
                Err(_) => {
                    self.socket = None;
                    self.turn += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn ask_once(&mut self, event: &str, args: &Value) -> Result<Value> {
        if self.socket.is_none() {
            let target = self.targets.at(self.turn);
            self.socket = Some(Socket::connect(&target, &json!({})).await?);
        }
        let socket = self.socket.as_mut().expect("it was set above");
        self.questions += 1;
        socket.emit(event, args, Some(self.questions), None).await?;
        loop {
            match socket.next().await? {
                Packet::Ack(number, mut answer) if number == self.questions => {
                    let answer = if answer.is_empty() {
                        Value::Null
                    } else {
                        answer.remove(0)
                    };
                    if answer["error"].is_object() {
                        bail!("the cluster answers `{event}` with {answer}");
                    }
                    return Ok(answer);
                }
                Packet::Disconnect => bail!("the server disconnected the client"),
                _ => {}
            }
        }
    }
}
