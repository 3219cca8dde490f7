//! The role frontend: serves the user's pages, and tells them where the io-nodes are.
//!
//! It knows neither clients nor apps: the list of io-nodes is all it hears from the rest of the cluster.

mod flash_policy;
mod io_list;
mod overlay;
mod pages;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

pub use flash_policy::serve_flash_policy;
pub use overlay::Overlay;

use crate::browser_client;
use crate::config::{self, IoServerUrl};

use io_list::IoList;
use pages::Pages;

/// The path at which pages expect the client's bundles.
const SOCKET_IO: &str = "/socket.io";

/// The body of an answer: a few words, or a file.
pub type PageBody = UnsyncBoxBody<Bytes, io::Error>;

/// The frontend as a hyper service. Clones are the same frontend.
#[derive(Clone)]
pub struct Frontend {
    parts: Option<Arc<Parts>>,
}

struct Parts {
    pages: Pages,
    io_list: IoList,
    overlay: Option<Overlay>,
}

impl Frontend {
    /// A frontend that tells clients of the configured io-nodes and of those that `running` holds at the time.
    pub fn new(settings: &config::Frontend, running: watch::Receiver<Vec<IoServerUrl>>) -> Self {
        Self::with_overlay(settings, running, None)
    }

    /// The same, with something to show over the pages.
    pub fn with_overlay(
        settings: &config::Frontend,
        running: watch::Receiver<Vec<IoServerUrl>>,
        overlay: Option<Overlay>,
    ) -> Self {
        let pages = Pages::new(settings.static_dir.clone(), overlay.is_some());
        let io_list = IoList::new(&settings.client_config_url, settings.io_servers.clone(), running);
        Self {
            parts: Some(Arc::new(Parts {
                pages,
                io_list,
                overlay,
            })),
        }
    }

    /// What stands in its place in a process without the role: all is 404.
    pub fn absent() -> Self {
        Self { parts: None }
    }

    async fn answer<B>(self, request: Request<B>) -> Response<PageBody> {
        let mut response = match &self.parts {
            None => words(StatusCode::NOT_FOUND, "not found"),
            Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                let mut response = words(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            Some(parts) => {
                let client =
                    || browser_client::answer(SOCKET_IO, request.uri().path(), request.method(), request.headers());
                let overlay = parts.overlay.as_ref().and_then(|overlay| overlay.answer(&request));
                match (overlay, parts.io_list.answer(&request).or_else(client)) {
                    (Some(response), _) => response,
                    (None, Some(response)) => response.map(in_memory),
                    (None, None) => parts.pages.answer(&request).await,
                }
            }
        };
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl<B: Body + Send + 'static> Service<Request<B>> for Frontend {
    type Response = Response<PageBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let frontend = self.clone();
        // The pages need no body, and a future that holds one would have to be of its kind.
        let request = request.map(drop);
        Box::pin(async move { Ok(frontend.answer(request).await) })
    }
}

/// The same for servers of tower, such as axum, as a route or as the fallback of one's own.
impl<B: Body + Send + 'static> tower_service::Service<Request<B>> for Frontend {
    type Response = Response<PageBody>;
    type Error = Infallible;
    type Future = <Self as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Service::call(self, request)
    }
}

fn in_memory(body: Full<Bytes>) -> PageBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A plain answer, never to be kept.
fn words(status: StatusCode, text: &'static str) -> Response<PageBody> {
    let mut response = Response::new(in_memory(Full::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
