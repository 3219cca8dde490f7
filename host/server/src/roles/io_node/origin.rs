//! Origins whose pages may connect, and CORS headers.
//!
//! Browsers send the origin of a page in `Origin`, which the page cannot change. It is checked before a session is opened, because CORS does
//! not apply to websockets: any page could read what it receives. A request without `Origin` does not come from a page of another site;
//! tokens authenticate such clients. Pages of the same host may connect from any port, because ports share cookies: a frontend and an
//! io-node on one machine have different ports.

use std::collections::HashSet;

use anyhow::{Result, bail};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Seconds for which browsers may cache the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// The methods of Socket.IO's requests.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// The origins whose pages may connect.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    any: bool,
    /// Origins in the spelling of browsers.
    named: HashSet<String>,
}

/// The CORS headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorsHeaders {
    origin: AllowedOrigin,
}

/// The origin that an answer allows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedOrigin {
    /// None: the request does not come from a page.
    None,
    /// A named origin or the request's own host: with cookies.
    Named(HeaderValue),
    /// Any origin, allowed by `*`: without cookies.
    Any,
}

/// The page may not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pages from `{origin}` may not connect: it is another site, and not among [io-node] allowed-origins")]
pub(super) struct OriginNotAllowed {
    origin: String,
}

impl Origins {
    /// Allows these origins, such as `https://example.com`, or any for `*`. The host of the request is always allowed.
    ///
    /// # Errors
    /// If one is not an origin.
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

    /// Checks the origin of a request. Returns the CORS headers of its answer.
    ///
    /// # Errors
    /// If its page may not connect.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, OriginNotAllowed> {
        let mut given = headers.get_all(ORIGIN).iter();
        let Some(origin) = given.next() else {
            return Ok(CorsHeaders {
                origin: AllowedOrigin::None,
            });
        };
        if given.next().is_none() {
            if self.is_named(origin, headers) {
                let origin = AllowedOrigin::Named(origin.clone());
                return Ok(CorsHeaders { origin });
            }
            if self.any {
                return Ok(CorsHeaders {
                    origin: AllowedOrigin::Any,
                });
            }
        }
        let shown = String::from_utf8_lossy(origin.as_bytes());
        Err(OriginNotAllowed {
            origin: shown.chars().take(200).collect(),
        })
    }

    /// Whether the request is a preflight of a browser.
    pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Whether it is a named origin, or the host of the request.
    fn is_named(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let Some(site) = origin.to_str().ok().and_then(Site::of) else {
            return false;
        };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| site.is_of(host)) || self.named.contains(&site.to_string())
    }
}

impl CorsHeaders {
    /// Adds them to the headers of an answer.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
        match &self.origin {
            AllowedOrigin::None => {}
            AllowedOrigin::Named(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            AllowedOrigin::Any => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
        }
    }

    /// Adds the permission that a preflight asks for.
    pub(super) fn add_permission_to(&self, headers: &mut HeaderMap, asked: &HeaderMap) {
        self.add_to(headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_HEADERS));
        if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
}

/// An origin, in lower case and without the default port of its scheme.
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

    /// Whether it has the same host name. Either scheme of the web will do, because a proxy may have ended TLS. Other schemes, such as those
    /// of browser extensions, have no hosts.
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

/// The host name without the port.
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
    fn allows_same_host_and_missing_origin_by_default() {
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
    fn allows_named_origins_exactly() {
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
    fn star_allows_any_origin() {
        let any = origins(&["*"]);
        for origin in ["https://anywhere.example", "null", "file://"] {
            assert!(takes(&any, origin, "own"), "{origin}");
            let mut answered = HeaderMap::new();
            let asked = headers(&[("origin", origin), ("host", "own")]);
            any.check(&asked).unwrap().add_to(&mut answered);
            assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert!(!answered.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        }
        // Named origins and the own host may also send cookies.
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
    fn refuses_configured_names_that_are_no_origins() {
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
    fn refuses_two_origin_headers() {
        let mut headers = headers(&[("origin", "http://a"), ("host", "a")]);
        headers.append(ORIGIN, HeaderValue::from_static("http://a"));
        assert!(origins(&[]).check(&headers).is_err());
    }

    #[test]
    fn answers_name_allowed_origins_only() {
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
    fn answers_preflights() {
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

        /// The host name, as another library parses it.
        fn name(authority: &str) -> Option<String> {
            let uri: http::Uri = format!("http://{authority}").parse().ok()?;
            Some(uri.host()?.to_lowercase())
        }

        proptest! {
            #[test]
            fn allows_only_same_host_or_named_origin(origin in origin(), host in host()) {
                let (Ok(origin), Ok(host)) = (HeaderValue::from_bytes(&origin), HeaderValue::from_bytes(&host)) else {
                    return Ok(());
                };
                let headers = HeaderMap::from_iter([(ORIGIN, origin.clone()), (HOST, host.clone())]);
                let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let (text, host) = (text(&origin), text(&host));
                let (scheme, site) = text.split_once("://").unwrap_or_default();
                // No browser has an origin that another library cannot parse.
                let is_same = name(site).is_none() || name(site) == name(&host);
                prop_assert!(origins(&[]).check(&headers).is_err() || is_same, "{origin:?} to {host:?}");
                if let Ok(cors) = origins(&["https://named.example"]).check(&headers) {
                    let is_named = scheme.eq_ignore_ascii_case("https") && name(site).as_deref() == Some("named.example");
                    prop_assert!(is_same || is_named, "{origin:?} to {host:?}");
                    prop_assert_eq!(cors.origin, AllowedOrigin::Named(origin));
                }
                let _ = Origins::new(&[text]);
            }
        }
    }
}
