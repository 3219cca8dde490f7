//! The outgoing HTTP client of one instance: sends requests to the hosts that the app is granted, within the time of the event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use http_body_util::BodyExt;
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
            },
        }
    }

    /// Sets the deadline of the current call.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.filter.deadline = deadline;
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
        let is_granted =
            |authority: &Authority| is_granted(&settings.grants.http, authority, port_of(request.uri(), authority));
        if !authority.is_some_and(is_granted) {
            tracing::warn!(
                app = %settings.namespace,
                authority = authority.map(tracing::field::display),
                "denied an HTTP request: its host is not in grants.http"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = bounded_by(options.unwrap_or_default(), left);
        Box::new(async move {
            let (response, connection) = default_send_request(request, Some(options)).await?;
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(connection);
            Ok((response.map(BodyExt::boxed_unsync), connection))
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
