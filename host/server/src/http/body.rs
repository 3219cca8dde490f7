//! The body of a request, read to its end: so much of it.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::{Request, StatusCode};

use super::BoxError;

/// Reads the body of a request, of no more than so many bytes.
///
/// # Errors
/// The status to answer with, and to close the connection after: 413 for what is too long, and 400 for what ended before its
/// end.
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
