//! What is answered to requests: by the engine, by what else answers there, or in their place.

use std::fmt::Display;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::http::BoxError;

/// What goes out with an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

pub(in super::super) type Answered<E> = Result<Response<AnswerBody>, E>;

/// An answer of another as one of ours.
pub(super) fn to_ours<B>(answer: Response<B>) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

pub(in super::super) fn answer(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = to_ours(Response::new(Full::<Bytes>::default()));
    *answer.status_mut() = status;
    answer
}

/// The answer that says what is wrong.
pub(super) fn told(status: StatusCode, wrong: &impl Display) -> Response<AnswerBody> {
    let mut answer = to_ours(Response::new(Full::from(format!("{wrong}\n"))));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}
