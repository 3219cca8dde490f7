//! Responses of the frontend.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// The body of a response: bytes in memory, or a file.
pub type PageBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body of bytes in memory.
pub(super) fn in_memory(body: Full<Bytes>) -> PageBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A response of plain text, which is never cached.
pub(super) fn plain_text(status: StatusCode, text: &'static str) -> Response<PageBody> {
    let mut response = Response::new(in_memory(Full::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
