//! The HTTP face of an io-node: socketioxide's service, watched for which connection a session is on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use socketioxide::service::SocketIoService;
use socketioxide_core::Sid;

use super::clients::EndPolling;
use super::door::Door;
use super::session::Sessions;
use crate::http::Connection;
use crate::shutdown::Shutdown;

/// What comes with a request: from the network, or from the io-node itself.
pub type RequestBody = Either<Incoming, Full<Bytes>>;

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: SocketIoService<S, Door>,
    path: Arc<str>,
    sessions: Arc<Sessions>,
}

impl<S: Clone> IoService<S> {
    pub(super) fn new(engine: SocketIoService<S, Door>, path: String, sessions: Arc<Sessions>) -> Self {
        Self {
            engine,
            path: path.into(),
            sessions,
        }
    }

    /// Notes on which connection a session goes on: the websocket it is upgraded to, or the one of its latest poll.
    fn note<B>(&self, request: &Request<B>) {
        if request.method() != http::Method::GET || !request.uri().path().starts_with(&*self.path) {
            return;
        }
        let sid = request.uri().query().and_then(|query| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix("sid="))
                .and_then(|sid| sid.parse::<Sid>().ok())
        });
        if let (Some(sid), Some(connection)) = (sid, request.extensions().get::<Arc<Connection>>()) {
            self.sessions.moved(sid, connection.clone());
        }
    }
}

impl<S, B> IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
{
    /// Ends a polling session the way its client would: by a close packet of Engine.IO.
    pub(super) fn end_polling(&self, shutdown: Shutdown) -> EndPolling {
        const CLOSE: &[u8] = b"1";
        let (engine, path) = (self.engine.clone(), self.path.clone());
        Arc::new(move |sid| {
            let close = Request::post(format!(
                "{}/?EIO=4&transport=polling&sid={sid}",
                path.trim_end_matches('/')
            ))
            .body(Either::Right(Full::from(CLOSE)))
            .expect("a path and a session id make a valid address");
            let answer = engine.call(close);
            shutdown.spawn(async move { drop(answer.await) });
        })
    }
}

impl<S, B> Service<Request<Incoming>> for IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    B: Body + Send + 'static,
{
    type Response = <SocketIoService<S, Door> as Service<Request<RequestBody>>>::Response;
    type Error = <SocketIoService<S, Door> as Service<Request<RequestBody>>>::Error;
    type Future = <SocketIoService<S, Door> as Service<Request<RequestBody>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.note(&request);
        self.engine.call(request.map(Either::Left))
    }
}
