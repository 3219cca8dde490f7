//! Reads the whole body of a request, within a limit.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::{Request, StatusCode};

use super::error::BoxError;

/// Reads the body of a request, at most `most` bytes.
///
/// # Errors
/// The status to answer with before the connection is closed: 413 if the body is too long, 400 if it is incomplete.
pub async fn whole_body<B>(request: Request<B>, most: usize) -> Result<Request<Bytes>, StatusCode>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > most as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match Limited::new(body, most).collect().await {
        Ok(read) => Ok(Request::from_parts(parts, read.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}
