//! The frontend: serves the user's pages, and the list of io-nodes that pages connect to.
//!
//! It knows neither clients nor apps, and of the cluster only the list of io-nodes.

mod flash_policy;
mod io_list;
mod overlay;
mod pages;
mod response;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Body;
use hyper::header::{ALLOW, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

pub use self::flash_policy::serve_flash_policy;
pub use self::overlay::Overlay;
pub use self::response::PageBody;

use crate::browser_client;
use crate::config::{self, IoServerUrl};

use self::io_list::IoList;
use self::pages::Pages;
use self::response::{in_memory, plain_text};

/// The path of the client's bundles.
const SOCKET_IO: &str = "/socket.io";

/// The frontend as a service of hyper and tower. Clones share its state.
#[derive(Clone)]
pub struct Frontend {
    /// None in a process without the role.
    parts: Option<Arc<Parts>>,
}

struct Parts {
    pages: Pages,
    io_list: IoList,
    overlay: Option<Overlay>,
}

impl Frontend {
    /// A frontend whose list has the configured io-nodes and those that `running` holds at the time of the request.
    pub fn new(settings: &config::Frontend, running: watch::Receiver<Vec<IoServerUrl>>) -> Self {
        Self::with_overlay(settings, running, None)
    }

    /// As [`new`](Self::new), with an overlay over the pages.
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

    /// A placeholder for processes without the role. It answers 404 to all requests.
    pub fn absent() -> Self {
        Self { parts: None }
    }

    async fn answer<B>(self, request: Request<B>) -> Response<PageBody> {
        let mut response = match &self.parts {
            None => plain_text(StatusCode::NOT_FOUND, "not found"),
            Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                let mut response = plain_text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            Some(parts) => {
                let bundle =
                    || browser_client::answer(SOCKET_IO, request.uri().path(), request.method(), request.headers());
                let overlay = parts.overlay.as_ref().and_then(|overlay| overlay.answer(&request));
                match (overlay, parts.io_list.answer(&request).or_else(bundle)) {
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
        // Without the body, the future's type does not depend on it.
        let request = request.map(drop);
        Box::pin(async move { Ok(frontend.answer(request).await) })
    }
}

/// For tower's servers, such as axum: as a route, or as the fallback.
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

#[cfg(test)]
mod tests;
