//! The parameters of an Engine.IO request, checked as Node's server checks them.

use http::{Method, Request};

use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::version::Version;
use crate::websocket::handshake;

/// The parameters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestParameters {
    /// The id of the session. None for a request that opens one.
    pub(crate) sid: Option<String>,
    pub(crate) version: Version,
    /// Whether the client wants binary data as base64 text.
    pub(crate) base64: bool,
    pub(crate) kind: RequestKind,
    /// Whether it has the headers of a websocket handshake but names another transport.
    pub(crate) is_misplaced_upgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Poll,
    Post,
    WebSocket,
}

impl RequestParameters {
    pub(crate) fn parse<B>(request: &Request<B>, settings: &Settings) -> Result<Self, Refusal> {
        let (mut transport, mut eio, mut sid, mut base64, mut jsonp) = (None, None, None, None, None);
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
            match &*name {
                "transport" => transport = Some(value),
                "EIO" => eio = Some(value),
                "sid" => sid = Some(value),
                "b64" => base64 = Some(value),
                "j" => jsonp = Some(value),
                _ => {}
            }
        }
        let sid = sid.filter(|sid| !sid.is_empty()).map(|sid| sid.into_owned());
        let is_upgrade = handshake::is_requested(request);
        let kind = match transport.as_deref() {
            // JSONP is not supported.
            Some("polling") if settings.polling() && jsonp.is_none() => match (request.method(), &sid) {
                (&Method::GET, _) => RequestKind::Poll,
                (&Method::POST, Some(_)) => RequestKind::Post,
                _ => return Err(Refusal::BadHandshakeMethod),
            },
            Some("websocket") if settings.websocket() => match (is_upgrade, request.method(), &sid) {
                (true, ..) => RequestKind::WebSocket,
                (false, &Method::GET, _) | (false, _, Some(_)) => return Err(Refusal::BadRequest),
                (false, _, None) => return Err(Refusal::BadHandshakeMethod),
            },
            _ => return Err(Refusal::TransportUnknown),
        };
        let version = match eio.as_deref() {
            Some("4") => Version::V4,
            _ => Version::V3,
        };
        // Node's server takes a client without EIO for one of protocol 3. All clients of protocol 3 send EIO, so it is required here.
        let is_supported = version == Version::V4 || (settings.protocol_3 && eio.is_some_and(|eio| eio == "3"));
        if sid.is_none() && !is_supported {
            return Err(Refusal::UnsupportedVersion);
        }
        Ok(Self {
            sid,
            version,
            base64: base64.is_some_and(|base64| !base64.is_empty()),
            is_misplaced_upgrade: is_upgrade && kind != RequestKind::WebSocket,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ClientTransport;

    fn parse(method: &str, query: &str, settings: &Settings) -> Result<RequestParameters, Refusal> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/engine.io/?{query}"))
            .body(())
            .unwrap();
        RequestParameters::parse(&request, settings)
    }

    /// Settings that accept all clients.
    fn all() -> Settings {
        Settings {
            protocol_3: true,
            ..Settings::default()
        }
    }

    #[test]
    fn parses_query() {
        let settings = all();
        let parameters = parse("GET", "EIO=4&transport=polling&sid=a%20b&b64=1", &settings).unwrap();
        let expected = RequestParameters {
            sid: Some("a b".into()),
            version: Version::V4,
            base64: true,
            kind: RequestKind::Poll,
            is_misplaced_upgrade: false,
        };
        assert_eq!(parameters, expected);
        let parameters = parse("GET", "EIO=3&transport=polling&sid=", &settings).unwrap();
        assert_eq!((parameters.version, parameters.sid), (Version::V3, None));
    }

    #[test]
    fn refuses_invalid_requests_as_node_does() {
        use Refusal::*;
        let (all, only_v4) = (all(), Settings::default());
        let no_polling = Settings {
            transports: vec![ClientTransport::Websocket],
            ..all.clone()
        };
        for (method, query, settings, refusal) in [
            ("GET", "EIO=4", &all, TransportUnknown),
            ("GET", "EIO=4&transport=abc", &all, TransportUnknown),
            ("GET", "EIO=4&transport=polling", &no_polling, TransportUnknown),
            ("GET", "EIO=4&transport=polling&j=0", &all, TransportUnknown),
            ("POST", "EIO=4&transport=polling", &all, BadHandshakeMethod),
            ("PUT", "EIO=4&transport=polling&sid=a", &all, BadHandshakeMethod),
            ("GET", "EIO=4&transport=websocket", &all, BadRequest),
            ("GET", "EIO=4&transport=websocket&sid=a", &all, BadRequest),
            ("POST", "EIO=4&transport=websocket", &all, BadHandshakeMethod),
            ("GET", "EIO=3&transport=polling", &only_v4, UnsupportedVersion),
            ("GET", "transport=polling", &all, UnsupportedVersion),
            ("GET", "EIO=abc&transport=polling", &all, UnsupportedVersion),
        ] {
            assert_eq!(parse(method, query, settings).unwrap_err(), refusal, "{method} {query}");
        }
    }
}
