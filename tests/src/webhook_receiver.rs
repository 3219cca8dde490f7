//! A receiver of webhooks in the process of the test. It records each request, and answers as the test says.

use std::convert::Infallible;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::within;

/// A receiver of webhooks. It ends when dropped, apart from open connections.
pub struct WebhookReceiver {
    scheme: &'static str,
    port: u16,
    answer: Arc<Mutex<WebhookAnswer>>,
    received: mpsc::UnboundedReceiver<WebhookRequest>,
    connections: Arc<Mutex<usize>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum WebhookAnswer {
    /// With this status.
    Status(u16),
    /// Never.
    Never,
}

/// A request.
#[derive(Debug)]
pub struct WebhookRequest {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as bytes.
    pub body: Bytes,
}

impl WebhookReceiver {
    /// Starts a receiver that answers 204.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// The same by https, with the certificate of this name that [`make_certificates`](crate::make_certificates) has put in a folder.
    pub async fn with_tls(folder: &Path, name: &str) -> Self {
        let file = |extension| folder.join(name).with_extension(extension);
        let certificate = CertificateDer::from_pem_file(file("crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is that of the certificate");
        Self::listen(Some(Arc::new(config).into())).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let answer = Arc::new(Mutex::new(WebhookAnswer::Status(204)));
        let connections = Arc::new(Mutex::new(0));
        let (sender, received) = mpsc::unbounded_channel();
        let (answers, counted) = (answer.clone(), connections.clone());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().expect("no holder of this lock panics") += 1;
                let (answers, sender) = (answers.clone(), sender.clone());
                let service = service_fn(move |request| receive(request, answers.clone(), sender.clone()));
                let (http, tls) = (http1::Builder::new(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return http.serve_connection(TokioIo::new(stream), service).await.ok();
                    };
                    let stream = tls.accept(stream).await.ok()?;
                    http.serve_connection(TokioIo::new(stream), service).await.ok()
                });
            }
        });
        Self {
            scheme,
            port,
            answer,
            received,
            connections,
            accepting,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/hook?source=test", self.scheme, self.port)
    }

    /// Sets how requests from now on are answered.
    pub fn answer(&self, answer: WebhookAnswer) {
        *self.answer.lock().expect("no holder of this lock panics") = answer;
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("no holder of this lock panics")
    }

    /// Whether no request waits for [`next`](Self::next).
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The next request.
    pub async fn next(&mut self) -> WebhookRequest {
        let next = within("the receiver of a webhook gets a request", self.received.recv());
        next.await.expect("the receiver runs")
    }

    /// The next request with this `webhook-id`; others are skipped.
    pub async fn next_of(&mut self, id: &str) -> WebhookRequest {
        loop {
            let request = self.next().await;
            if request.header("webhook-id") == id {
                return request;
            }
        }
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl WebhookRequest {
    /// The value of a header.
    ///
    /// # Panics
    /// If it is missing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no header {name}: {:?}", self.headers));
        value.to_str().expect("the header is text")
    }

    /// The JSON of its body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

async fn receive(
    request: Request<Incoming>,
    answer: Arc<Mutex<WebhookAnswer>>,
    sender: mpsc::UnboundedSender<WebhookRequest>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    assert_eq!(
        parts.uri.path_and_query().map(|path| path.as_str()),
        Some("/hook?source=test")
    );
    let Ok(body) = body.collect().await else {
        pending().await
    };
    let _ = sender.send(WebhookRequest {
        headers: parts.headers,
        body: body.to_bytes(),
    });
    let answer = *answer.lock().expect("no holder of this lock panics");
    let WebhookAnswer::Status(status) = answer else {
        pending().await
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ok(response)
}
