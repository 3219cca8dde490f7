//! Why a request is refused, and the HTTP response that says so: with the codes, texts and statuses of Node's server.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::response::Body;

/// Why a request is refused. The texts are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The transport that it names does not exist or is switched off.
    #[error("Transport unknown")]
    TransportUnknown,
    /// The session that it names does not exist or has ended.
    #[error("Session ID unknown")]
    SessionUnknown,
    /// It would open a session, but is not a GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// It uses another transport or protocol version than its session, or its websocket handshake is invalid.
    #[error("Bad request")]
    BadRequest,
    /// The application refuses the session.
    #[error("{0}")]
    Forbidden(String),
    /// The application accepts no sessions at the moment. The client may try again.
    #[error("{0}")]
    Unavailable(String),
    /// The client has opened as many sessions as it may, or opens them too fast.
    #[error("{message}")]
    TooMany {
        /// The text for the client.
        message: String,
        /// When it may open the next, where that is known.
        retry_after: Option<Duration>,
    },
    /// Its protocol version is unknown, or is version 3, which is switched off.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

/// Extension of a response that tells a client that its session is unknown: the session has ended, or is on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSession;

impl Refusal {
    /// The error code of the protocol.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden(_) | Self::Unavailable(_) | Self::TooMany { .. } => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The response for the client.
    pub(crate) fn response(&self) -> Response<Body> {
        let json = serde_json::json!({ "code": self.code(), "message": self.to_string() });
        let mut response = Response::new(Body::whole(json.to_string()));
        *response.status_mut() = match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        if *self == Self::SessionUnknown {
            response.extensions_mut().insert(UnknownSession);
        }
        let headers = response.headers_mut();
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
        response
    }
}
