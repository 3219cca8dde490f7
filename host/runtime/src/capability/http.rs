//! `wasi:http`, outgoing only, to the hosts that the app is granted, and for no longer than the event has time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use http_body_util::BodyExt;
use wasmtime_wasi_http::p2::add_only_http_to_linker_async;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, default_send_request,
};

use super::{Capability, Grant, Package};
use crate::state::{App, State};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:http",
        version: "0.2.12",
        interfaces: &["types", "outgoing-handler"],
    }],
    grant: Some(Grant {
        is_given: |grants| !grants.http.is_empty(),
        remedy: "name the hosts it may reach in the app's configuration, as in grants.http = [\"api.example.com\"]",
    }),
    link: add_only_http_to_linker_async::<State>,
};

/// The HTTP client of one instance.
pub(crate) struct OutgoingHttp {
    ctx: WasiHttpCtx,
    gate: Gate,
}

/// Lets through what is granted.
struct Gate {
    app: Arc<App>,
    deadline: Instant,
}

type Answer = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl OutgoingHttp {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self {
            ctx: WasiHttpCtx::new(),
            gate: Gate {
                app: app.clone(),
                deadline: Instant::now(),
            },
        }
    }

    /// When the present event's time is used up.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.gate.deadline = deadline;
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http.ctx,
            table: &mut self.table,
            hooks: &mut self.http.gate,
        }
    }
}

impl WasiHttpHooks for Gate {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let settings = &self.app.settings;
        let authority = request.uri().authority();
        let is_granted =
            |authority: &Authority| is_granted(&settings.grants.http, authority, port_of(request.uri(), authority));
        if !authority.is_some_and(is_granted) {
            tracing::warn!(
                app = %settings.namespace,
                authority = authority.map(tracing::field::display),
                "denied an HTTP request to a host that is not in grants.http"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = within(options.unwrap_or_default(), left);
        Box::new(async move {
            let (answer, connection) = default_send_request(request, Some(options)).await?;
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(connection);
            Ok((answer.map(BodyExt::boxed_unsync), connection))
        })
    }
}

/// The same timeouts, none of them beyond what is left.
fn within(options: RequestOptions, left: Duration) -> RequestOptions {
    let bound = |timeout: Option<Duration>| Some(timeout.map_or(left, |timeout| timeout.min(left)));
    RequestOptions {
        connect_timeout: bound(options.connect_timeout),
        first_byte_timeout: bound(options.first_byte_timeout),
        between_bytes_timeout: bound(options.between_bytes_timeout),
    }
}

/// The port of a request: that of its scheme, unless it names one.
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

    fn is_let(granted: &str, wanted: &str) -> bool {
        let uri: http::Uri = wanted.parse().expect("an address");
        let authority = uri.authority().expect("it has a host");
        is_granted(&[granted.to_owned()], authority, port_of(&uri, authority))
    }

    #[test]
    fn a_host_is_granted_by_name_and_with_a_port_by_that_port_alone() {
        assert!(is_let("api.example.com", "https://api.example.com/"));
        assert!(is_let("api.example.com", "https://API.example.com:8443/"));
        assert!(is_let("api.example.com:8443", "https://api.example.com:8443/"));
        assert!(is_let("[::1]:80", "http://[::1]:80/"));
        assert!(is_let("*", "http://anything.example:1/"));
        assert!(!is_let("api.example.com:8443", "https://api.example.com/"));
        assert!(!is_let("api.example.com", "https://example.com/"));
        assert!(!is_let("api.example.com", "https://api.example.com.evil.example/"));
        assert!(!is_let("api.example.com", "https://api.example.com@evil.example/"));
        let authority = "example.com".parse().expect("an authority");
        assert!(!is_granted(&[], &authority, 443));
    }

    #[test]
    fn a_port_that_is_not_named_is_that_of_the_scheme() {
        assert!(is_let("api.example.com:443", "https://api.example.com/"));
        assert!(is_let("api.example.com:80", "http://api.example.com/"));
        assert!(!is_let("api.example.com:443", "http://api.example.com/"));
        assert!(!is_let("api.example.com:443", "https://api.example.com:8443/"));
    }

    #[test]
    fn no_timeout_outlasts_the_event() {
        let asked = RequestOptions {
            connect_timeout: Some(Duration::from_secs(9)),
            ..RequestOptions::default()
        };
        let left = Duration::from_secs(1);
        let options = within(asked, left);
        assert_eq!(options.connect_timeout, Some(left));
        assert_eq!(options.first_byte_timeout, Some(left));
    }
}
