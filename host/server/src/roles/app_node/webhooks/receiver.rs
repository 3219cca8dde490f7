//! The receiver of a webhook: sends deliveries by POST over connections that are kept open, a few at a time.
//!
//! Redirects are not followed, and of an answer only the status counts. Each exchange is bounded in time and in bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::settings::WebhookSettings;
use super::signature::SigningSecret;
use crate::endpoint::{BytesLeft, Endpoint};
use plugnode_message::{WebhookDelivery, now_ms};

/// Deliveries that wait, as a multiple of those that are sent at a time.
const WAITING: usize = 8;
/// Bytes that a receiver may send in one exchange, with heads and what TLS adds. A longer body only ends the connection.
const MAX_ANSWER: usize = 128 * 1_024;
/// How long the rest of an answer is waited for.
const REST: Duration = Duration::from_secs(1);

/// The receiver of a webhook.
pub(super) struct Receiver {
    endpoint: Endpoint,
    secrets: Vec<SigningSecret>,
    timeout: Duration,
    /// Deliveries that are sent or wait.
    waiting: Arc<Semaphore>,
    /// Deliveries that are sent.
    sending: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// An open connection. It is closed when this is dropped.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    left: BytesLeft,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self> {
        const WANTED: &str = "url: not a URL such as https://crm.internal/plugnode";
        let endpoint = Endpoint::new(&settings.url, settings.ca.as_deref(), "ca", WANTED)?;
        Ok(Self {
            endpoint,
            secrets: settings.secrets.clone(),
            timeout: settings.timeout,
            waiting: Arc::new(Semaphore::new(settings.concurrency * WAITING)),
            sending: Semaphore::new(settings.concurrency),
            idle: Mutex::default(),
        })
    }

    /// A place among the deliveries that wait. None if there is none.
    pub(super) fn place_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// Sends a delivery. The time-out begins when it is its turn.
    ///
    /// # Errors
    /// If it is not certain that the receiver has it.
    pub(super) async fn post(&self, delivery: &WebhookDelivery) -> Result<()> {
        let _turn = self.sending.acquire().await?;
        let late = |_| anyhow::anyhow!("no answer within {} ms", self.timeout.as_millis());
        let (connection, response) = timeout(self.timeout, self.ask(delivery)).await.map_err(late)??;
        self.accepted(connection, response).await
    }

    /// Sends a delivery, and waits for the status.
    async fn ask(&self, delivery: &WebhookDelivery) -> Result<(Connection, Response<Incoming>)> {
        // The receiver may close an idle connection just when it is used again.
        if let Some(mut connection) = self.take_idle() {
            connection.left.store(MAX_ANSWER, Ordering::Relaxed);
            if let Ok(response) = connection.sender.send_request(self.request(delivery)?).await {
                return Ok((connection, response));
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.sender.send_request(self.request(delivery)?).await;
        Ok((connection, response.context("no answer")?))
    }

    /// Checks the status of an answer, and keeps the connection for the next request.
    async fn accepted(&self, connection: Connection, response: Response<Incoming>) -> Result<()> {
        let status = response.status();
        let rest = response.into_body().collect();
        if matches!(timeout(REST, rest).await, Ok(Ok(_))) {
            self.idle.lock().push(connection);
        }
        ensure!(
            !status.is_redirection(),
            "it redirects ({status}), and redirects are not followed: configure the final URL"
        );
        ensure!(status.is_success(), "the answer is {status}");
        Ok(())
    }

    fn request(&self, delivery: &WebhookDelivery) -> Result<Request<Full<Bytes>>> {
        let uri = &self.endpoint.uri;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().context("the URL has no host")?;
        let timestamp = now_ms() / 1_000;
        let signatures = self
            .secrets
            .iter()
            .map(|secret| secret.sign(&delivery.id, timestamp, &delivery.body));
        let mut signature = HeaderValue::try_from(signatures.collect::<Vec<_>>().join(" "))?;
        signature.set_sensitive(true);
        let request = Request::post(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("plugnode/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &*delivery.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(delivery.body.clone()))?;
        Ok(request)
    }

    async fn connect(&self) -> Result<Connection> {
        let left = BytesLeft::new(MAX_ANSWER.into());
        let stream = self.endpoint.connect(left.clone()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // The request reports its errors.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            left,
            _task: AbortOnDropHandle::new(task),
        })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        loop {
            let connection = idle.pop()?;
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }
}
