//! The outgoing HTTP client of one instance: sends requests to the hosts that the app is granted, within the time of the event, and no
//! more at once than the app's limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks, default_send_request};

use crate::app::App;

/// The HTTP client of one instance.
pub(crate) struct OutgoingHttp {
    pub(crate) ctx: WasiHttpCtx,
    pub(crate) filter: RequestFilter,
}

/// Sends granted requests, and denies all others.
pub(crate) struct RequestFilter {
    app: Arc<App>,
    deadline: Instant,
    /// A permit for each request that may be open. The instance holds responses beyond the event that asked for them.
    permits: Arc<Semaphore>,
    /// Whether the current call was over the limit before: it is logged once.
    was_over_limit: bool,
}

type SentRequest = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl OutgoingHttp {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self {
            ctx: WasiHttpCtx::new(),
            filter: RequestFilter {
                app: app.clone(),
                deadline: Instant::now(),
                permits: Arc::new(Semaphore::new(
                    app.settings.handler.limits.http_requests.min(Semaphore::MAX_PERMITS),
                )),
                was_over_limit: false,
            },
        }
    }

    /// Sets the deadline of the current call.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.filter.deadline = deadline;
        self.filter.was_over_limit = false;
    }
}

impl WasiHttpHooks for RequestFilter {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<SentRequest, Error>> + Send> {
        let settings = &self.app.settings;
        let authority = request.uri().authority();
        let is_granted = |authority: &Authority| {
            is_granted(
                &settings.handler.grants.http,
                authority,
                port_of(request.uri(), authority),
            )
        };
        if !authority.is_some_and(is_granted) {
            tracing::warn!(
                app = %settings.namespace,
                authority = authority.map(tracing::field::display),
                "denied an HTTP request: its host is not in grants.http"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            if !std::mem::replace(&mut self.was_over_limit, true) {
                tracing::warn!(
                    app = %settings.namespace,
                    limit = settings.handler.limits.http_requests,
                    "refused an HTTP request: the instance has too many open; read or drop responses, or raise limits.http-requests"
                );
            }
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = bounded_by(options.unwrap_or_default(), left);
        Box::new(async move {
            let (response, connection) = default_send_request(request, Some(options)).await?;
            // Until the connection has ended and the handler has dropped the response, parts of which may wait in memory.
            let permit = Arc::new(permit);
            let of_body = permit.clone();
            let response = response.map(|body| {
                let body = body.map_frame(move |frame| {
                    let _held = &of_body;
                    frame
                });
                body.boxed_unsync()
            });
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(async move {
                let _held = permit;
                connection.await
            });
            Ok((response, connection))
        })
    }
}

/// Limits each time-out of the request to the time that is left.
fn bounded_by(options: RequestOptions, left: Duration) -> RequestOptions {
    let bound = |timeout: Option<Duration>| Some(timeout.map_or(left, |timeout| timeout.min(left)));
    RequestOptions {
        connect_timeout: bound(options.connect_timeout),
        first_byte_timeout: bound(options.first_byte_timeout),
        between_bytes_timeout: bound(options.between_bytes_timeout),
    }
}

/// The port of a request: the one in its authority, or the default of its scheme.
fn port_of(uri: &http::Uri, authority: &Authority) -> u16 {
    let by_scheme = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    authority.port_u16().unwrap_or(by_scheme)
}

/// Checks an entry of `grants.http`.
///
/// # Errors
/// If no request can match it; with the remedy.
pub fn check_http_grant(granted: &str) -> Result<(), String> {
    if granted == "*" {
        return Ok(());
    }
    let has_valid_port =
        |authority: &Authority| authority.as_str() == authority.host() || authority.port_u16().is_some();
    match granted.parse::<Authority>() {
        Ok(authority) if granted.contains('*') => Err(format!(
            "`{authority}` is not a host: `*` stands alone, for any host; name each host"
        )),
        Ok(authority) if !authority.as_str().contains('@') && has_valid_port(&authority) => Ok(()),
        _ => {
            let uri = granted.parse::<http::Uri>().ok();
            let authority = uri
                .as_ref()
                .filter(|uri| uri.scheme().is_some())
                .and_then(http::Uri::authority);
            let host = authority.map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
            let remedy = host.unwrap_or("api.example.com` or `api.example.com:8443");
            // What precedes an `@` may be a password.
            let shown = granted.rsplit('@').next().unwrap_or_default();
            Err(format!(
                "`{shown}` is not a host with or without a port, so no request would match it; write `{remedy}`"
            ))
        }
    }
}

fn is_granted(granted: &[String], wanted: &Authority, port: u16) -> bool {
    granted.iter().any(|granted| {
        if granted == "*" {
            return true;
        }
        let Ok(granted) = granted.parse::<Authority>() else {
            return false;
        };
        granted.host().eq_ignore_ascii_case(wanted.host()) && granted.port_u16().is_none_or(|granted| granted == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(granted: &str, wanted: &str) -> bool {
        let uri: http::Uri = wanted.parse().expect("an address");
        let authority = uri.authority().expect("it has a host");
        is_granted(&[granted.to_owned()], authority, port_of(&uri, authority))
    }

    #[test]
    fn grant_matches_host_and_port_if_it_names_one() {
        assert!(allows("api.example.com", "https://api.example.com/"));
        assert!(allows("api.example.com", "https://API.example.com:8443/"));
        assert!(allows("api.example.com:8443", "https://api.example.com:8443/"));
        assert!(allows("[::1]:80", "http://[::1]:80/"));
        assert!(allows("*", "http://anything.example:1/"));
        assert!(!allows("api.example.com:8443", "https://api.example.com/"));
        assert!(!allows("api.example.com", "https://example.com/"));
        assert!(!allows("api.example.com", "https://api.example.com.evil.example/"));
        assert!(!allows("api.example.com", "https://api.example.com@evil.example/"));
        let authority = "example.com".parse().expect("an authority");
        assert!(!is_granted(&[], &authority, 443));
    }

    #[test]
    fn refuses_grants_that_match_no_request() {
        for granted in [
            "*",
            "api.example.com",
            "localhost:9000",
            "[::1]",
            "[::1]:80",
            "127.0.0.1:80",
        ] {
            assert_eq!(check_http_grant(granted), Ok(()), "{granted}");
        }
        for (granted, remedy) in [
            ("https://api.example.com", "write `api.example.com`"),
            ("http://localhost:9000/a?b=c", "write `localhost:9000`"),
            ("https://me:secret@host/", "write `host`"),
            ("me@host", "write `api.example.com`"),
            ("host/path", "write `api.example.com`"),
            ("host:99999", "write `api.example.com`"),
            ("host:", "write `api.example.com`"),
            ("a b", "write `api.example.com`"),
            ("", "write `api.example.com`"),
            ("*.example.com", "name each host"),
        ] {
            let problem = check_http_grant(granted).expect_err(granted);
            assert!(problem.contains(remedy) && !problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn default_port_is_that_of_the_scheme() {
        assert!(allows("api.example.com:443", "https://api.example.com/"));
        assert!(allows("api.example.com:80", "http://api.example.com/"));
        assert!(!allows("api.example.com:443", "http://api.example.com/"));
        assert!(!allows("api.example.com:443", "https://api.example.com:8443/"));
    }

    #[test]
    fn request_timeouts_end_with_the_event() {
        let asked = RequestOptions {
            connect_timeout: Some(Duration::from_secs(9)),
            ..RequestOptions::default()
        };
        let left = Duration::from_secs(1);
        let options = bounded_by(asked, left);
        assert_eq!(options.connect_timeout, Some(left));
        assert_eq!(options.first_byte_timeout, Some(left));
    }
}
