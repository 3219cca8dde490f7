//! Serves the official Socket.IO client for browsers under the same names as Node's server, so that
//! `<script src="/socket.io/socket.io.js">` works unchanged. The bundles and their licence are in `client/`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

/// Version of the bundles, as an entity tag.
const VERSION: &str = "\"4.8.4\"";

const SCRIPT: &[u8] = include_bytes!("../client/socket.io.min.js");
const MODULE: &[u8] = include_bytes!("../client/socket.io.esm.min.js");
const MSGPACK: &[u8] = include_bytes!("../client/socket.io.msgpack.min.js");

/// The bundles by name. Both names of the script are the minified one.
const FILES: [(&str, &[u8]); 5] = [
    ("socket.io.js", SCRIPT),
    ("socket.io.min.js", SCRIPT),
    ("socket.io.esm.min.js", MODULE),
    ("socket.io.msgpack.min.js", MSGPACK),
    ("socket.io.msgpack.js", MSGPACK),
];

/// Answers a request for a bundle. None for other paths. `base` is the path of Socket.IO, such as `/socket.io`.
pub(crate) fn answer(base: &str, path: &str, method: &Method, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let name = path.strip_prefix(base.trim_end_matches('/'))?.strip_prefix('/')?;
    let (_, bundle) = FILES.into_iter().find(|(file, _)| *file == name)?;
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|tag| {
        let tag = tag.as_bytes();
        tag.strip_prefix(b"W/").unwrap_or(tag) == VERSION.as_bytes()
    });
    let (status, body) = match *method {
        Method::GET | Method::HEAD if is_known => (StatusCode::NOT_MODIFIED, &[][..]),
        Method::GET | Method::HEAD => (StatusCode::OK, bundle),
        _ => (StatusCode::METHOD_NOT_ALLOWED, &[][..]),
    };
    let mut response = Response::new(Full::from(Bytes::from_static(body)));
    *response.status_mut() = status;
    let answers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }
    answers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    answers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
    answers.insert(ETAG, HeaderValue::from_static(VERSION));
    answers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn get(path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        answer("/socket.io", path, &Method::GET, headers)
    }

    #[tokio::test]
    async fn serves_bundles_by_name() {
        let none = HeaderMap::new();
        for (name, bundle) in FILES {
            let response = get(&format!("/socket.io/{name}"), &none).expect("it is a bundle");
            assert_eq!(response.headers()[ETAG], VERSION);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), bundle);
            let text = std::str::from_utf8(bundle).unwrap();
            assert!(text.contains(VERSION.trim_matches('"')), "{name} is of another version");
        }
        for other in [
            "/socket.io/",
            "/socket.io",
            "/socket.io/socket.io.js/",
            "/other/socket.io.js",
            "/socket.iosocket.io.js",
        ] {
            assert!(get(other, &none).is_none(), "{other}");
        }
        assert!(answer("/chat/ws/", "/chat/ws/socket.io.js", &Method::GET, &none).is_some());
    }

    #[test]
    fn known_version_is_not_sent_again() {
        for (tag, status) in [(VERSION, 304), ("W/\"4.8.4\"", 304), ("\"4.7.0\"", 200)] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tag))]);
            assert_eq!(
                get("/socket.io/socket.io.js", &headers).unwrap().status(),
                status,
                "{tag}"
            );
        }
        let posted = answer(
            "/socket.io",
            "/socket.io/socket.io.js",
            &Method::POST,
            &HeaderMap::new(),
        );
        assert_eq!(posted.unwrap().status(), 405);
    }
}
