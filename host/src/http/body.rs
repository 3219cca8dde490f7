//! The body of a request, read to its end: so much of it, and for so long.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::{Request, StatusCode};
use tokio::time::timeout;

use super::BoxError;

/// How long a peer may take to send a body, among the extensions of each request that has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyTimeout(pub(super) Duration);

/// Reads the body of a request, of no more than so many bytes, in no more than the time that the settings give.
///
/// # Errors
/// The status to answer with, and to close the connection after: 413 for what is too long, 408 for what is too slow, and
/// 400 for what ended before its end.
pub async fn whole_body<B>(request: Request<B>, most: usize) -> Result<Request<Bytes>, StatusCode>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > most as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let limit = parts.extensions.get::<BodyTimeout>().copied();
    let reading = Limited::new(body, most).collect();
    let read = match limit {
        Some(BodyTimeout(limit)) => timeout(limit, reading).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?,
        None => reading.await,
    };
    match read {
        Ok(read) => Ok(Request::from_parts(parts, read.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}
