//! What a request asks of Engine.IO, and what one is told that asks wrongly: as Node's server tells it.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};

use crate::answer::Body;
use crate::websocket::handshake;
use crate::{Settings, Version};

/// What a request asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) sid: Option<String>,
    pub(crate) version: Version,
    /// Whether binary data are to be sent as text.
    pub(crate) base64: bool,
    pub(crate) kind: Kind,
    /// Whether it asks to become a websocket and names another transport.
    pub(crate) is_misplaced_upgrade: bool,
}

/// By which way a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Poll,
    Post,
    WebSocket,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The transport that it names is none, or is off.
    #[error("Transport unknown")]
    TransportUnknown,
    /// The session that it names is none, or has ended.
    #[error("Session ID unknown")]
    SessionUnknown,
    /// It would open a session, and is no GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// It goes by another transport than its session, or in another protocol; or a handshake is wrong.
    #[error("Bad request")]
    BadRequest,
    /// The application does not take the session.
    #[error("{0}")]
    Forbidden(String),
    /// The application takes no sessions now. The client may ask again.
    #[error("{0}")]
    Unavailable(String),
    /// The client has opened as many sessions as it may, or opens them too fast.
    #[error("{message}")]
    TooMany {
        /// What it is told.
        message: String,
        /// When it may open the next, where that is known.
        retry_after: Option<Duration>,
    },
    /// It is of protocol 3, which is off, or of none.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl Question {
    /// Reads what a request asks.
    pub(crate) fn of<B>(request: &Request<B>, settings: &Settings) -> Result<Self, Refusal> {
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
        let is_upgrade = handshake::is_wanted(request);
        let kind = match transport.as_deref() {
            // JSONP is not spoken.
            Some("polling") if settings.polling && jsonp.is_none() => match (request.method(), &sid) {
                (&Method::GET, _) => Kind::Poll,
                (&Method::POST, Some(_)) => Kind::Post,
                _ => return Err(Refusal::BadHandshakeMethod),
            },
            Some("websocket") if settings.websocket => match (is_upgrade, request.method(), &sid) {
                (true, ..) => Kind::WebSocket,
                (false, &Method::GET, _) | (false, _, Some(_)) => return Err(Refusal::BadRequest),
                (false, _, None) => return Err(Refusal::BadHandshakeMethod),
            },
            _ => return Err(Refusal::TransportUnknown),
        };
        let version = match eio.as_deref() {
            Some("4") => Version::V4,
            _ => Version::V3,
        };
        // Every client of protocol 3 says so; Node's server takes one that says nothing for such a one.
        let is_known = version == Version::V4 || (settings.protocol_3 && eio.is_some_and(|eio| eio == "3"));
        if sid.is_none() && !is_known {
            return Err(Refusal::UnsupportedVersion);
        }
        Ok(Self {
            sid,
            version,
            base64: base64.is_some_and(|base64| !base64.is_empty()),
            is_misplaced_upgrade: is_upgrade && kind != Kind::WebSocket,
            kind,
        })
    }
}

/// Marks an answer, among its extensions, that tells a client that its session is unknown: it was ended, or is at another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSession;

impl Refusal {
    /// Its number in the protocol.
    pub fn code(&self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden(_) | Self::Unavailable(_) | Self::TooMany { .. } => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The answer that tells it.
    pub fn answer(&self) -> Response<Body> {
        let json = serde_json::json!({ "code": self.code(), "message": self.to_string() });
        let mut answer = Response::new(Body::whole(json.to_string()));
        *answer.status_mut() = match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        if *self == Self::SessionUnknown {
            answer.extensions_mut().insert(UnknownSession);
        }
        let headers = answer.headers_mut();
        let retry_after = match self {
            Self::Unavailable(_) => Some(Duration::ZERO),
            Self::TooMany { retry_after, .. } => *retry_after,
            _ => None,
        };
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, (wait.as_secs() + 1).into());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, query: &str, settings: &Settings) -> Result<Question, Refusal> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/engine.io/?{query}"))
            .body(())
            .unwrap();
        Question::of(&request, settings)
    }

    #[test]
    fn questions_are_read() {
        let settings = Settings::default();
        let question = ask("GET", "EIO=4&transport=polling&sid=a%20b&b64=1", &settings).unwrap();
        let expected = Question {
            sid: Some("a b".into()),
            version: Version::V4,
            base64: true,
            kind: Kind::Poll,
            is_misplaced_upgrade: false,
        };
        assert_eq!(question, expected);
        let question = ask("GET", "EIO=3&transport=polling&sid=", &settings).unwrap();
        assert_eq!((question.version, question.sid), (Version::V3, None));
    }

    #[test]
    fn wrong_questions_are_refused_as_by_node() {
        use Refusal::*;
        let all = Settings::default();
        let only_v4 = Settings {
            protocol_3: false,
            ..Settings::default()
        };
        let no_polling = Settings {
            polling: false,
            ..Settings::default()
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
            assert_eq!(ask(method, query, settings).unwrap_err(), refusal, "{method} {query}");
        }
    }
}
