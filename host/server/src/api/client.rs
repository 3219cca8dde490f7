//! A client of the API, for the command line.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Bytes of an answer.
const MAX_ANSWER: usize = 16 << 20;

/// Makes a request of the API that listens at `address`, such as `127.0.0.1:9090`. Returns status and body of the answer.
///
/// # Errors
/// If there is no answer.
pub async fn call(
    address: &str,
    secret: &str,
    operation: &str,
    idempotency_key: Option<&str>,
    body: &Value,
) -> Result<(u16, Value)> {
    let stream = TcpStream::connect(address).await;
    let stream =
        stream.with_context(|| format!("cannot reach the server API at {address}; is [api] listen set there?"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let mut request = Request::post(format!("/api/v1/{operation}"))
        .header(HOST, address)
        .header(AUTHORIZATION, format!("Bearer {secret}"))
        .header(CONTENT_TYPE, "application/json");
    if let Some(key) = idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let request = request.body(Full::new(Bytes::from(body.to_string())));
    let request = request.context("the key or the idempotency key cannot be part of a header")?;
    let answer = sender
        .send_request(request)
        .await
        .context("the server API does not answer")?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    serving.abort();
    let Ok(body) = body else {
        bail!("the answer of the server API is too long or incomplete")
    };
    Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
}
