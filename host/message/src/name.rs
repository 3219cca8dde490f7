//! Names: of namespaces, channels, clients and nodes. Each is a type of its own and cheap to clone.

use std::fmt;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// Maximum length of the name of a namespace, a channel or an event, in bytes.
pub const MAX_NAME: usize = 1024;

/// Event names that Socket.IO emits itself on the receiving side. Neither clients nor handlers may send them:
/// <https://socket.io/docs/v4/emit-cheatsheet/#reserved-events>.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// Declares a name: a shared text with a type of its own.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        // Not derived: this copies the text once, the derived code twice.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(NameVisitor).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(name.into())
    }
}

name! {
    /// The Socket.IO session id of a client, unique within its namespace.
    SessionId
}
name! {
    /// A channel (a Socket.IO room) of one namespace.
    Channel
}
name! {
    /// A Socket.IO namespace, such as `/` or `/chat`.
    Namespace
}
name! {
    /// The name under which a node joined the cluster.
    NodeId
}

/// A pattern of names: a name, or its beginning followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePattern(pub String);

impl NamePattern {
    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_beginnings() {
        for (pattern, channel, matches) in [
            ("room/*", "room/1", true),
            ("room/*", "room", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("*", "", true),
        ] {
            assert_eq!(
                NamePattern(pattern.into()).matches(channel),
                matches,
                "{pattern} {channel}"
            );
        }
    }
}
