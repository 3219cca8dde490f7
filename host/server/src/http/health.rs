//! `/healthz` and `/readyz` on the clients' port, answered before the service behind.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::{self, Either, MapOk, ready};
use http_body_util::{Either as EitherBody, Full};
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};

use plugnode_process::shutdown::Shutdown;

/// Answers health checks, and passes other requests to the inner service. `/healthz` is 200 as long as the process lives.
/// `/readyz` is 200 while the process can take clients, else 503 with the reason.
#[derive(Clone)]
pub struct Health<S> {
    inner: S,
    ready: Ready,
    shutdown: Shutdown,
}

/// The header of `/readyz` that names the node.
pub const NODE_HEADER: &str = "plugnode-node";
/// The header of `/readyz` with the milliseconds since the node last renewed its lease.
pub const RENEWED_HEADER: &str = "plugnode-renewed-ms";

/// Tells whether the process can take clients now.
pub type Ready = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// Whether a process can take clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why it cannot.
    pub problem: Option<String>,
    /// The node's name and the time since it last renewed its lease, if it has joined a cluster.
    pub renewed: Option<(String, Duration)>,
}

impl Readiness {
    /// Whether it can take clients.
    pub fn is_ready(&self) -> bool {
        self.problem.is_none()
    }

    fn headers(&self) -> Option<[(HeaderName, HeaderValue); 2]> {
        let (name, age) = self.renewed.as_ref()?;
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Some([
            (HeaderName::from_static(NODE_HEADER), name.parse().ok()?),
            (HeaderName::from_static(RENEWED_HEADER), age.into()),
        ])
    }
}

/// The answer to a health check.
struct HealthAnswer {
    status: StatusCode,
    text: Cow<'static, str>,
    headers: Option<[(HeaderName, HeaderValue); 2]>,
}

impl HealthAnswer {
    fn ok() -> Self {
        Self::of(StatusCode::OK, "ok\n")
    }

    fn of(status: StatusCode, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
            headers: None,
        }
    }
}

impl<S> Health<S> {
    /// Puts health checks in front of a service.
    pub fn new(inner: S, ready: Ready, shutdown: Shutdown) -> Self {
        Self { inner, ready, shutdown }
    }

    fn answer<R>(&self, request: &Request<R>) -> Option<HealthAnswer> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match request.uri().path() {
            "/healthz" => Some(HealthAnswer::ok()),
            "/readyz" if self.shutdown.is_announced() => {
                Some(HealthAnswer::of(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"))
            }
            "/readyz" => {
                let readiness = (self.ready)();
                let headers = readiness.headers();
                Some(match readiness.problem {
                    Some(problem) => HealthAnswer {
                        status: StatusCode::SERVICE_UNAVAILABLE,
                        text: format!("{problem}\n").into(),
                        headers,
                    },
                    None => HealthAnswer {
                        headers,
                        ..HealthAnswer::ok()
                    },
                })
            }
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
        let Some(HealthAnswer { status, text, headers }) = self.answer(&request) else {
            return Either::Right(
                self.inner
                    .call(request)
                    .map_ok(|response| response.map(EitherBody::Right)),
            );
        };
        let mut response = Response::new(EitherBody::Left(Full::from(Bytes::from(text.into_owned()))));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(headers.into_iter().flatten());
        Either::Left(ready(Ok(response)))
    }
}
