//! `/healthz` and `/readyz`, answered before anything else has a say.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::{self, Either, MapOk, ready};
use http_body_util::{Either as EitherBody, Full};
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};

use crate::shutdown::Shutdown;

/// Answers health checks, and hands all else to the service within. `/healthz` is 200 for as long as the process
/// lives; `/readyz` is 200 while the process can take clients, and 503 before, between and after that.
#[derive(Clone)]
pub struct Health<S> {
    inner: S,
    ready: Ready,
    shutdown: Shutdown,
}

/// Whether clients can be taken now.
pub type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

impl<S> Health<S> {
    /// Health checks in front of a service.
    pub fn new(inner: S, ready: Ready, shutdown: Shutdown) -> Self {
        Self { inner, ready, shutdown }
    }

    fn answer<R>(&self, request: &Request<R>) -> Option<(StatusCode, &'static str)> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match request.uri().path() {
            "/healthz" => Some((StatusCode::OK, "ok\n")),
            "/readyz" if self.shutdown.has_begun() => Some((StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")),
            "/readyz" if !(self.ready)() => Some((StatusCode::SERVICE_UNAVAILABLE, "not joined to the cluster\n")),
            "/readyz" => Some((StatusCode::OK, "ok\n")),
            _ => None,
        }
    }
}

impl<S, R, B> Service<Request<R>> for Health<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<EitherBody<Full<Bytes>, B>>;
    type Error = S::Error;
    type Future = Either<
        future::Ready<Result<Self::Response, Self::Error>>,
        MapOk<S::Future, fn(Response<B>) -> Response<EitherBody<Full<Bytes>, B>>>,
    >;

    fn call(&self, request: Request<R>) -> Self::Future {
        let Some((status, text)) = self.answer(&request) else {
            return Either::Right(
                self.inner
                    .call(request)
                    .map_ok(|response| response.map(EitherBody::Right)),
            );
        };
        let mut response = Response::new(EitherBody::Left(Full::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Either::Left(ready(Ok(response)))
    }
}
