//! A program outside of the cluster: publishes numbered events to the watchers through the server API, one after the other. A publish without
//! an answer is repeated with the same idempotency key, at the next node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Phase, SharedState};
use super::history::Publishes;
use super::watcher;

/// Name of the event.
pub(super) const EVENT: &str = "published";
/// Pause before a repetition.
const PAUSE: Duration = Duration::from_millis(50);
/// Time-out of one attempt.
const PATIENCE: Duration = Duration::from_secs(15);

/// Publishes until the clients stop sending, and completes the last publish within the run's patience.
pub(super) async fn run(
    shared: Arc<SharedState>,
    number: usize,
    api_key: String,
    phases: watch::Receiver<Phase>,
) -> Publishes {
    let settings = &shared.settings;
    let pause = Duration::from_secs_f64(1.0 / settings.publish_rate.max(0.01));
    let mut publishes = Publishes::default();
    let mut turn = number;
    while *phases.borrow() == Phase::Sending {
        let count = publishes.sent.len() + 1;
        publishes.sent.push(shared.progress.now());
        let key = format!("{}-{number}-{count}", shared.run);
        let mut body = json!({ "namespace": settings.namespace, "event": EVENT, "args": [shared.run, number, count] });
        // Those for a channel and those for all have different orders.
        match number % 2 {
            0 => body["all"] = true.into(),
            _ => body["to"] = json!([watcher::CHANNEL]),
        }
        let mut last = Instant::now();
        loop {
            let api = {
                let apis = shared.apis.read().expect("no holder of this lock panics");
                apis.get(turn % apis.len().max(1)).cloned().unwrap_or_default()
            };
            match timeout(PATIENCE, post(&api, &api_key, &key, &body)).await {
                // 202: it will be committed.
                Ok(Ok(200 | 202)) => {
                    publishes.accepted = count;
                    break;
                }
                // While it is ending, or has no room.
                Ok(Ok(429 | 503)) | Ok(Err(_)) | Err(_) => {
                    publishes.repeated += 1;
                    turn += 1;
                }
                Ok(Ok(status)) => {
                    publishes.refused = Some(status);
                    return publishes;
                }
            }
            if *phases.borrow() == Phase::Sending {
                last = Instant::now();
            } else if last.elapsed() > settings.patience {
                return publishes;
            }
            sleep(PAUSE).await;
        }
        sleep(pause).await;
    }
    publishes
}

/// Makes a publish at a node; its status.
async fn post(api: &str, api_key: &str, key: &str, body: &Value) -> Result<u16> {
    let body = body.to_string();
    let address = api.strip_prefix("http://").context("it is not http://host:port")?;
    let mut stream = TcpStream::connect(address.trim_end_matches('/')).await?;
    let length = body.len();
    let request = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {api_key}\r\n\
         Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.context("no answer")
}
