//! The list of io-nodes that pages ask for: `/config.js`, as socket.io-cluster had it, and the same as JSON.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use tokio::sync::watch;

use crate::config::IoServerUrl;

/// The io-nodes, in another order at each request, so that clients that take the first are spread over all.
pub(super) struct IoList {
    script_path: String,
    json_path: String,
    configured: Vec<IoServerUrl>,
    running: watch::Receiver<Vec<IoServerUrl>>,
    turn: AtomicUsize,
}

impl IoList {
    pub(super) fn new(path: &str, configured: Vec<IoServerUrl>, running: watch::Receiver<Vec<IoServerUrl>>) -> Self {
        let json_path = format!("{}.json", path.strip_suffix(".js").unwrap_or(path));
        Self {
            script_path: path.into(),
            json_path,
            configured,
            running,
            turn: AtomicUsize::new(0),
        }
    }

    /// The list, if that is what is asked for.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let path = request.uri().path();
        let (text, media_type) = if path == self.script_path {
            (
                format!("var SOCKET_SERVERS = {};\n", self.next(request)),
                "text/javascript; charset=utf-8",
            )
        } else if path == self.json_path {
            (self.next(request).to_string(), "application/json")
        } else {
            return None;
        };
        let mut response = Response::new(Full::from(text));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    fn next<B>(&self, request: &Request<B>) -> serde_json::Value {
        let mut servers = self.configured.clone();
        for server in self.running.borrow().iter() {
            let is_same = |other: &IoServerUrl| (&other.host, other.port) == (&server.host, server.port);
            if !servers.iter().any(is_same) {
                servers.push(server.clone());
            }
        }
        if !servers.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % servers.len();
            servers.rotate_left(turn);
        }
        let asked = asked_host(request);
        servers
            .iter()
            .map(|server| {
                let mut told = json!({ "host": url_host(server, &asked), "port": server.port });
                for (name, value) in [("scheme", &server.scheme), ("path", &server.path)] {
                    if let Some(value) = value {
                        told[name] = json!(value);
                    }
                }
                told
            })
            .collect()
    }
}

/// The host for a URL: pages put scheme, `://`, host, `:` and port together.
fn url_host(server: &IoServerUrl, asked: &str) -> String {
    match server.host.as_str() {
        "" => asked.to_owned(),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
        host => host.to_owned(),
    }
}

/// The host by which the browser reached this frontend, without the port.
fn asked_host<B>(request: &Request<B>) -> String {
    let authority = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority: Option<http::uri::Authority> = authority.and_then(|host| host.parse().ok());
    authority.map_or_else(|| "localhost".into(), |authority| authority.host().to_owned())
}
