//! What a request asks of Engine.IO, read from its address and written as one.

use engineioxide::sid::Sid;
use http::Uri;

/// What a request asks of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// The session it names, or none to open one.
    pub(super) sid: Option<Sid>,
    pub(super) version: Version,
    pub(super) websocket: bool,
    /// Whether the client cannot take binary answers.
    pub(super) base64: bool,
}

/// A version of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V4,
}

impl Question {
    /// Reads it. What is asked wrongly is none.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let pairs = || uri.query().unwrap_or_default().split('&');
        let value = |key: &str| pairs().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        // The engine reads these up to another `=`, and what it reads has to be what is read here.
        let word = |key: &str| value(key)?.split('=').next();
        Some(Self {
            sid: match value("sid") {
                Some(sid) => Some(sid.parse().ok()?),
                None => None,
            },
            version: match word("EIO")? {
                "3" => Version::V3,
                "4" => Version::V4,
                _ => return None,
            },
            websocket: match word("transport")? {
                "websocket" => true,
                "polling" => false,
                _ => return None,
            },
            base64: matches!(value("b64"), Some("1" | "true")),
        })
    }

    /// The address that asks this, where Engine.IO has this path.
    pub(super) fn address(&self, path: &str) -> Uri {
        let version = match self.version {
            Version::V3 => 3,
            Version::V4 => 4,
        };
        let transport = if self.websocket { "websocket" } else { "polling" };
        let sid = self.sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let base64 = if self.base64 { "&b64=1" } else { "" };
        let path = path.trim_end_matches('/');
        let address = format!("{path}/?EIO={version}&transport={transport}{sid}{base64}");
        address.parse().expect("a path and a session id make a valid address")
    }
}
