//! The io-node as a tower service, for programs with an HTTP server of their own, such as axum.
//!
//! It answers as it does behind [`crate::http`], with two exceptions: addresses of peers are not known, so limits of one address do not
//! apply, and time limits are those of the server. A program that instead gives its own pages as the inner service to an io-node behind
//! [`crate::http`] keeps both.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};

use super::service::{AnswerBody, Inner, InnerError, IoService, answer};
use crate::http::{BoxError, whole_body};

impl<S, R> tower_service::Service<Request<R>> for IoService<S>
where
    S: Inner,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = InnerError<S>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let service = self.clone();
        if self.is_of_engine(request.uri()) {
            return Box::pin(async move { Ok(service.answer_engine(request).await) });
        }
        Box::pin(async move {
            if request.method() == Method::GET || request.method() == Method::HEAD {
                let request = request.map(|_| Either::Right(Full::default()));
                return service.answer(request).await;
            }
            // Its body has another type than those of the inner service, so it is read here.
            match whole_body(request, service.max_body()).await {
                Ok(request) => {
                    service
                        .answer(request.map(|body| Either::Right(Full::from(body))))
                        .await
                }
                Err(status) => Ok(answer(status)),
            }
        })
    }
}
