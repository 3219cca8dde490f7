//! The list of io-nodes for pages: `/config.js`, as in socket.io-cluster, and the same as JSON.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use tokio::sync::watch;

use crate::config::IoServerUrl;

/// The list of io-nodes. It is rotated at each request, so that clients that take the first are spread over all.
pub(super) struct IoList {
    script_path: String,
    json_path: String,
    configured: Vec<IoServerUrl>,
    running: watch::Receiver<Vec<IoServerUrl>>,
    rotation: AtomicUsize,
}

impl IoList {
    pub(super) fn new(path: &str, configured: Vec<IoServerUrl>, running: watch::Receiver<Vec<IoServerUrl>>) -> Self {
        let json_path = format!("{}.json", path.strip_suffix(".js").unwrap_or(path));
        Self {
            script_path: path.into(),
            json_path,
            configured,
            running,
            rotation: AtomicUsize::new(0),
        }
    }

    /// Answers a request for the list. None for other paths.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let path = request.uri().path();
        let (text, media_type) = if path == self.script_path {
            (
                format!("var SOCKET_SERVERS = {};\n", self.list(request)),
                "text/javascript; charset=utf-8",
            )
        } else if path == self.json_path {
            (self.list(request).to_string(), "application/json")
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

    fn list<B>(&self, request: &Request<B>) -> serde_json::Value {
        let mut servers = self.configured.clone();
        for server in self.running.borrow().iter() {
            let is_same = |other: &IoServerUrl| (&other.host, other.port) == (&server.host, server.port);
            if !servers.iter().any(is_same) {
                servers.push(server.clone());
            }
        }
        if !servers.is_empty() {
            let rotation = self.rotation.fetch_add(1, Ordering::Relaxed) % servers.len();
            servers.rotate_left(rotation);
        }
        let requested = requested_host(request);
        servers
            .iter()
            .map(|server| {
                let mut entry = json!({ "host": url_host(server, &requested), "port": server.port });
                for (name, value) in [("scheme", &server.scheme), ("path", &server.path)] {
                    if let Some(value) = value {
                        entry[name] = json!(value);
                    }
                }
                entry
            })
            .collect()
    }
}

/// The host as part of a URL. Without a configured host it is the requested one.
fn url_host(server: &IoServerUrl, requested: &str) -> String {
    match server.host.as_str() {
        "" => requested.to_owned(),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
        host => host.to_owned(),
    }
}

/// The host that the browser requested, without the port.
fn requested_host<B>(request: &Request<B>) -> String {
    let authority = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority: Option<http::uri::Authority> = authority.and_then(|host| host.parse().ok());
    authority.map_or_else(|| "localhost".into(), |authority| authority.host().to_owned())
}
