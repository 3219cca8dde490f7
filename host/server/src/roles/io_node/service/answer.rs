//! Answers of the HTTP service, all with the same type of body.

use std::fmt::Display;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::http::BoxError;

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// The result of a request.
pub(in super::super) type Answered<E> = Result<Response<AnswerBody>, E>;

/// An answer with its body boxed.
pub(super) fn boxed<B>(answer: Response<B>) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// An answer without a body.
pub(in super::super) fn answer(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = boxed(Response::new(Full::<Bytes>::default()));
    *answer.status_mut() = status;
    answer
}

/// An answer with an error message.
pub(super) fn error_answer(status: StatusCode, error: &impl Display) -> Response<AnswerBody> {
    let mut answer = boxed(Response::new(Full::from(format!("{error}\n"))));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}
