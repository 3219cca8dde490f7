//! What is answered to requests of Engine.IO: by the engine, or in its place.

use std::fmt::Display;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tracing::debug;

use super::super::limits::TooMany;
use super::question::Version;
use crate::counts;
use crate::http::BoxError;

/// What goes out with an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

pub(in super::super) type Answered<E> = Result<Response<AnswerBody>, E>;

/// An answer of the engine as one of ours.
pub(super) async fn to_ours<B, E>(answer: impl Future<Output = Result<Response<B>, E>>) -> Answered<E>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Ok(answer.await?.map(|body| body.map_err(Into::into).boxed_unsync()))
}

pub(in super::super) fn answer(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// The answer that says what is wrong.
pub(super) fn told(status: StatusCode, wrong: &impl Display) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(format!("{wrong}\n").into()));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}

pub(super) fn too_many_answer(too_many: TooMany) -> Response<AnswerBody> {
    debug!("a session is refused: {too_many}");
    counts::ADDRESSES_REFUSED.one();
    let mut answer = told(StatusCode::TOO_MANY_REQUESTS, &too_many);
    if let TooMany::Connects(wait) = too_many {
        answer.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    answer
}

/// Says what is wrong with a request, in the words of Engine.IO.
pub(super) fn mistaken(json: &'static str) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::from_static(json.as_bytes())));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// Says that a session goes another way than the one it is asked on.
pub(super) fn bad_request() -> Response<AnswerBody> {
    mistaken(r#"{"code":3,"message":"Bad request"}"#)
}

pub(super) fn whole(body: Bytes) -> AnswerBody {
    ours(Full::from(body))
}

/// What is said all at once.
pub(super) fn ours(body: Full<Bytes>) -> AnswerBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// The answer to a poll for which there is nothing.
pub(super) fn nothing(version: Version) -> Response<AnswerBody> {
    let noop: &[u8] = match version {
        Version::V3 => b"1:6",
        Version::V4 => b"6",
    };
    let mut answer = Response::new(whole(Bytes::from_static(noop)));
    let text = HeaderValue::from_static("text/plain; charset=UTF-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}
