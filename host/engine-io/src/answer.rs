//! The bodies of answers. That of a poll tells its session how far the client has read it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::session::{Delivery, Hold};

/// How much is given to the server at once: it takes the next when the client has read some of it.
const PART: usize = 16 * 1024;

/// What a payload of text is in HTTP.
const TEXT: &str = "text/plain; charset=UTF-8";

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    rest: Bytes,
    /// Of an answer to a poll.
    delivery: Option<Delivery>,
}

/// The bytes of an answer to a POST, for which polls wait. The server drops bytes when the kernel has them. One whose connections do
/// not write several buffers at once copies them first, and then the two answers race.
struct Held {
    bytes: &'static [u8],
    _hold: Hold,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Body {
    /// A body that is all there.
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        Self {
            rest: body.into(),
            delivery: None,
        }
    }

    fn of_post(bytes: &'static [u8], hold: Hold) -> Self {
        Self::whole(Bytes::from_owner(Held { bytes, _hold: hold }))
    }

    fn of_poll(body: Bytes, delivery: Delivery) -> Self {
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
            Some(delivery) if this.rest.is_empty() => delivery.done(),
            Some(delivery) => {
                delivery.left(this.rest.len());
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

/// The answer to a poll.
pub(crate) fn poll(body: Bytes, is_binary: bool, delivery: Delivery) -> Response<Body> {
    let mut answer = Response::new(Body::of_poll(body, delivery));
    let kind = match is_binary {
        true => "application/octet-stream",
        false => TEXT,
    };
    set_headers(&mut answer, kind);
    answer
}

/// The answer that opens a session.
pub(crate) fn text(body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::whole(body));
    set_headers(&mut answer, TEXT);
    answer
}

/// The answer to a POST whose packets were taken. Not `text/plain`, for which old browsers offered a download.
pub(crate) fn ok(hold: Hold) -> Response<Body> {
    let mut answer = Response::new(Body::of_post(b"ok", hold));
    set_headers(&mut answer, "text/html");
    answer
}

/// The answer to a POST whose packets were not taken.
pub(crate) fn refused(hold: Hold) -> Response<Body> {
    let mut answer = Response::new(Body::of_post(br#"{"code":3,"message":"Bad request"}"#, hold));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    set_headers(&mut answer, "application/json");
    answer
}

/// An answer that is no more than its status.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn set_headers(answer: &mut Response<Body>, kind: &'static str) {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
