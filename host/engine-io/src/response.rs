//! HTTP responses. The body of a response to a poll tells the session how far the client has read it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::poll_delivery::{PollDelivery, PollHold};

/// Bytes given to the HTTP server at once. It takes the next part when the client has read some of this one.
const PART: usize = 16 * 1024;

/// The content type of a text payload.
const TEXT: &str = "text/plain; charset=UTF-8";

/// The body of a response.
#[derive(Debug)]
pub struct Body {
    rest: Bytes,
    /// For the response to a poll: reports how far the client has read it.
    delivery: Option<PollDelivery>,
}

/// The bytes of a response to a POST: polls are held back until they are dropped. The HTTP server drops bytes when the kernel
/// has them. On a connection without vectored writes it copies them first, and then the two responses race.
struct HoldingBytes {
    bytes: &'static [u8],
    _hold: PollHold,
}

impl AsRef<[u8]> for HoldingBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Body {
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        Self {
            rest: body.into(),
            delivery: None,
        }
    }

    fn of_post(bytes: &'static [u8], hold: PollHold) -> Self {
        Self::whole(Bytes::from_owner(HoldingBytes { bytes, _hold: hold }))
    }

    fn of_poll(body: Bytes, delivery: PollDelivery) -> Self {
        Self {
            rest: body,
            delivery: Some(delivery),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let part = this.rest.split_to(this.rest.len().min(PART));
        match this.delivery.take() {
            Some(delivery) if this.rest.is_empty() => delivery.finish(),
            Some(delivery) => {
                delivery.progress(this.rest.len());
                this.delivery = Some(delivery);
            }
            None => {}
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// The response to a poll.
pub(crate) fn poll(body: Bytes, is_binary: bool, delivery: PollDelivery) -> Response<Body> {
    let mut response = Response::new(Body::of_poll(body, delivery));
    let content_type = match is_binary {
        true => "application/octet-stream",
        false => TEXT,
    };
    set_headers(&mut response, content_type);
    response
}

/// The response that opens a session.
pub(crate) fn text(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    set_headers(&mut response, TEXT);
    response
}

/// The response to a POST whose packets were accepted. Not `text/plain`, which old browsers offer as a download.
pub(crate) fn ok(hold: PollHold) -> Response<Body> {
    let mut response = Response::new(Body::of_post(b"ok", hold));
    set_headers(&mut response, "text/html");
    response
}

/// The response to a POST whose packets were refused.
pub(crate) fn refused(hold: PollHold) -> Response<Body> {
    let mut response = Response::new(Body::of_post(br#"{"code":3,"message":"Bad request"}"#, hold));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    set_headers(&mut response, "application/json");
    response
}

/// A response without a body.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn set_headers(response: &mut Response<Body>, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
