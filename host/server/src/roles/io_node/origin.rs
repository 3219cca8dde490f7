//! Whose pages may connect, and what browsers are told about it (CORS).
//!
//! A browser says in `Origin` which site a page is from, and no page can change that. The check comes before a session is
//! made, for a WebSocket knows no CORS: its page would read what it gets. Who sends no `Origin` is no page of another
//! site; tokens, and not origins, tell such clients apart. Pages of the same host may connect whatever their port is, as
//! they share its cookies: a frontend and an io-node of one machine have different ones.

use std::collections::HashSet;

use anyhow::{Result, bail};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Seconds that a browser may remember that it may ask.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");
/// What requests of Socket.IO are made with.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// Whose pages may connect.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    any: bool,
    /// As browsers write them.
    named: HashSet<String>,
}

/// What to add to the answer of a request that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorsHeaders {
    origin: Asked,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// No page.
    Nobody,
    /// A page of a site that is meant: it may send cookies along.
    Site(HeaderValue),
    /// A page of any site, as `*` allows: without cookies, for nobody has said that it may have what they open.
    Anyone,
}

/// A page of a site that may not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pages from `{origin}` may not connect: they are of another site, and not among [io-node] allowed-origins")]
pub(super) struct Forbidden {
    origin: String,
}

impl Origins {
    /// Those named, such as `https://example.com`, or `*` for all; and always those of the host that a request is for.
    ///
    /// # Errors
    /// When one of them is not an origin.
    pub(super) fn new(named: &[String]) -> Result<Self> {
        let mut origins = Self {
            any: false,
            named: HashSet::new(),
        };
        for name in named {
            match Site::of(name) {
                _ if name == "*" => origins.any = true,
                Some(site) => _ = origins.named.insert(site.to_string()),
                None => {
                    bail!("[io-node] allowed-origins: `{name}` is not an origin such as `https://example.com`, nor `*`")
                }
            }
        }
        Ok(origins)
    }

    /// Whether a request with these headers may be made, and what its answer says of that.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, Forbidden> {
        let mut given = headers.get_all(ORIGIN).iter();
        let Some(origin) = given.next() else {
            return Ok(CorsHeaders { origin: Asked::Nobody });
        };
        if given.next().is_none() {
            if self.means(origin, headers) {
                let origin = Asked::Site(origin.clone());
                return Ok(CorsHeaders { origin });
            }
            if self.any {
                return Ok(CorsHeaders { origin: Asked::Anyone });
            }
        }
        let shown = String::from_utf8_lossy(origin.as_bytes());
        Err(Forbidden {
            origin: shown.chars().take(200).collect(),
        })
    }

    /// Whether this is a browser that asks whether its page may make a request.
    pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Whether it is a named site, or the host that the request is for.
    fn means(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let Some(site) = origin.to_str().ok().and_then(Site::of) else {
            return false;
        };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| site.is_of(host)) || self.named.contains(&site.to_string())
    }
}

impl CorsHeaders {
    /// Adds them to those of an answer.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
        match &self.origin {
            Asked::Nobody => {}
            Asked::Site(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            Asked::Anyone => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
        }
    }

    /// Adds to the headers of an answer that the page may make the request that it asks about.
    pub(super) fn add_permission_to(&self, headers: &mut HeaderMap, asked: &HeaderMap) {
        self.add_to(headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_HEADERS));
        if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
}

/// An origin in its parts, in lower case and without a port that its scheme implies.
#[derive(Debug, PartialEq, Eq)]
struct Site {
    scheme: String,
    host: String,
}

impl Site {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, host) = origin.split_once("://")?;
        let plain = |c: char| c.is_ascii_graphic() && !"/?#@,*\\".contains(c);
        if scheme.is_empty() || name_of(host).is_empty() || !host.chars().all(plain) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let host = without_port(&scheme, host);
        Some(Self { scheme, host })
    }

    /// Whether it is the host that a request is for. Behind a proxy that ends TLS, it is not known which of the web's schemes that
    /// came by. Those of others, such as extensions of browsers, are no sites.
    fn is_of(&self, host: &str) -> bool {
        matches!(&*self.scheme, "http" | "https") && name_of(host).eq_ignore_ascii_case(name_of(&self.host))
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

fn without_port(scheme: &str, host: &str) -> String {
    let implied = match scheme {
        "https" | "wss" => ":443",
        "http" | "ws" => ":80",
        _ => "",
    };
    let host = host.to_ascii_lowercase();
    match host.strip_suffix(implied) {
        Some(short) => short.into(),
        None => host,
    }
}

/// A host without its port.
pub(super) fn name_of(host: &str) -> &str {
    let end = match host.starts_with('[') {
        true => host.find(']').map(|end| end + 1),
        false => host.find(':'),
    };
    &host[..end.unwrap_or(host.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(named: &[&str]) -> Origins {
        let named: Vec<String> = named.iter().map(|name| name.to_string()).collect();
        Origins::new(&named).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        HeaderMap::from_iter(pairs)
    }

    fn takes(origins: &Origins, origin: &str, host: &str) -> bool {
        origins.check(&headers(&[("origin", origin), ("host", host)])).is_ok()
    }

    #[test]
    fn by_default_pages_of_the_same_host_and_clients_without_origin_may() {
        let default = origins(&[]);
        assert!(default.check(&headers(&[("host", "a.example")])).is_ok());
        for (origin, host, taken) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("https://a.example", "a.example", true),
            ("https://A.example", "a.EXAMPLE:443", true),
            ("http://a.example", "a.example:80", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://localhost:3000", "localhost:8080", true),
            ("http://[::1]:3000", "[::1]:8080", true),
            ("http://[::1]:8080", "[::2]:8080", false),
            ("http://localhost:8080", "127.0.0.1:8080", false),
            ("http://:80", ":80", false),
            ("https://evil.example", "a.example", false),
            ("https://a.example.evil.example", "a.example", false),
            ("https://evil.example/a.example", "a.example", false),
            ("https://evil@a.example", "a.example", false),
            ("null", "a.example", false),
            ("a.example", "a.example", false),
            ("", "", false),
            ("file://", "", false),
            ("chrome-extension://abc", "abc", false),
            ("ws://a.example", "a.example", false),
        ] {
            assert_eq!(takes(&default, origin, host), taken, "{origin} to {host}");
        }
        assert!(default.check(&headers(&[("origin", "http://a.example")])).is_err());
    }

    #[test]
    fn named_origins_may_besides_exactly_as_they_are() {
        let named = origins(&[
            "https://example.com",
            "HTTP://Dev:3000",
            "https://b.example:443",
            "chrome-extension://abc",
        ]);
        for (origin, taken) in [
            ("https://example.com", true),
            ("http://dev:3000", true),
            ("https://b.example", true),
            ("https://own", true),
            ("http://example.com", false),
            ("https://example.com:8443", false),
            ("https://www.example.com", false),
            ("http://dev", false),
            ("null", false),
            ("chrome-extension://abc", true),
            ("chrome-extension://own", false),
        ] {
            assert_eq!(takes(&named, origin, "own"), taken, "{origin}");
        }
    }

    #[test]
    fn a_star_is_for_all() {
        let any = origins(&["*"]);
        for origin in ["https://anywhere.example", "null", "file://"] {
            assert!(takes(&any, origin, "own"), "{origin}");
            let mut answered = HeaderMap::new();
            let asked = headers(&[("origin", origin), ("host", "own")]);
            any.check(&asked).unwrap().add_to(&mut answered);
            assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert!(!answered.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        }
        // Who is named besides, and the host itself, may have cookies.
        let both = origins(&["*", "https://example.com"]);
        for origin in ["https://example.com", "http://own"] {
            let mut answered = HeaderMap::new();
            let asked = headers(&[("origin", origin), ("host", "own")]);
            both.check(&asked).unwrap().add_to(&mut answered);
            assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
            assert_eq!(answered[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        }
    }

    #[test]
    fn what_is_no_origin_is_not_taken_for_one() {
        for wrong in [
            "example.com",
            "https://",
            "https://a/",
            "https://a b",
            "https://*.a",
            "://a",
        ] {
            let error = Origins::new(&[wrong.into()]).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("allowed-origins"), "{error}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = headers(&[("origin", "http://a"), ("host", "a")]);
        headers.append(ORIGIN, HeaderValue::from_static("http://a"));
        assert!(origins(&[]).check(&headers).is_err());
    }

    #[test]
    fn answers_name_the_origin_only_when_it_may() {
        let named = origins(&["https://example.com"]);
        let mut answered = HeaderMap::new();
        let cors = named
            .check(&headers(&[("origin", "https://example.com"), ("host", "own")]))
            .unwrap();
        cors.add_to(&mut answered);
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], "https://example.com");
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(answered[VARY], "origin");

        let mut answered = HeaderMap::new();
        named.check(&HeaderMap::new()).unwrap().add_to(&mut answered);
        assert!(!answered.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(answered[VARY], "origin");

        let forbidden = named
            .check(&headers(&[("origin", "https://evil.example"), ("host", "own")]))
            .unwrap_err();
        assert!(forbidden.to_string().contains("`https://evil.example`"));
    }

    #[test]
    fn browsers_are_told_what_they_may_ask() {
        let named = origins(&["https://example.com"]);
        let question = headers(&[
            ("origin", "https://example.com"),
            ("host", "own"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-token"),
        ]);
        assert!(Origins::is_preflight(&Method::OPTIONS, &question));
        assert!(!Origins::is_preflight(&Method::GET, &question));
        assert!(!Origins::is_preflight(&Method::OPTIONS, &HeaderMap::new()));
        let mut answered = HeaderMap::new();
        let cors = named.check(&question).unwrap();
        cors.add_permission_to(&mut answered, &question);
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], "https://example.com");
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-token");
        let vary: Vec<_> = answered.get_all(VARY).iter().collect();
        assert_eq!(vary, ["origin", "access-control-request-headers"]);
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{bytes, nearly, one_of};

        fn origin() -> impl Strategy<Value = Vec<u8>> {
            let valid = one_of(&[
                "https://a.example",
                "http://A.example:80",
                "https://[::1]:8443",
                "https://named.example",
                "null",
                "*",
                "file://",
            ]);
            prop_oneof![4 => nearly(valid.prop_map(String::into_bytes)), 1 => bytes(40)]
        }

        fn host() -> impl Strategy<Value = Vec<u8>> {
            let valid = one_of(&["a.example", "A.example:80", "[::1]:8443", ""]);
            prop_oneof![2 => valid.prop_map(String::into_bytes), 1 => bytes(20)]
        }

        /// The host of a place in the web, as another reads it.
        fn name(authority: &str) -> Option<String> {
            let uri: http::Uri = format!("http://{authority}").parse().ok()?;
            Some(uri.host()?.to_lowercase())
        }

        proptest! {
            #[test]
            fn only_the_same_host_or_a_named_site_is_let_in(origin in origin(), host in host()) {
                let (Ok(origin), Ok(host)) = (HeaderValue::from_bytes(&origin), HeaderValue::from_bytes(&host)) else {
                    return Ok(());
                };
                let headers = HeaderMap::from_iter([(ORIGIN, origin.clone()), (HOST, host.clone())]);
                let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let (text, host) = (text(&origin), text(&host));
                let (scheme, site) = text.split_once("://").unwrap_or_default();
                // What another cannot read, no browser is at.
                let is_same = name(site).is_none() || name(site) == name(&host);
                prop_assert!(origins(&[]).check(&headers).is_err() || is_same, "{origin:?} to {host:?}");
                if let Ok(cors) = origins(&["https://named.example"]).check(&headers) {
                    let is_named = scheme.eq_ignore_ascii_case("https") && name(site).as_deref() == Some("named.example");
                    prop_assert!(is_same || is_named, "{origin:?} to {host:?}");
                    prop_assert_eq!(cors.origin, Asked::Site(origin));
                }
                let _ = Origins::new(&[text]);
            }
        }
    }
}
