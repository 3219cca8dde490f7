//! The settings of a webhook.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signature::SigningSecret;
use plugnode_message::{Event, NamePattern, Namespace};

/// An event that a webhook can tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookEvent {
    /// A client has connected. Not for one that the handler refuses.
    Connection,
    /// A client has disconnected.
    Disconnect,
    /// An event was given up.
    DeadLetter,
}

/// What a webhook tells of: an event, or a message of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic<'a> {
    Event(WebhookEvent),
    /// A custom message, by its index among the commands of its event.
    Custom {
        index: usize,
        kind: &'a str,
        data: &'a [u8],
    },
}

impl Topic<'_> {
    /// Its type in payloads.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Event(event) => event.name(),
            Self::Custom { .. } => "custom",
        }
    }
}

impl WebhookEvent {
    /// Its name in payloads.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Disconnect => "disconnect",
            Self::DeadLetter => "dead-letter",
        }
    }
}

/// The settings of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Its name, unique on the node. Deliveries are stored under it.
    pub name: String,
    /// Where deliveries are sent by POST.
    pub url: String,
    /// A PEM file with the certificates to trust. None: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// What deliveries are signed with, by each.
    pub secrets: Vec<SigningSecret>,
    /// The events that it tells of.
    pub events: Vec<WebhookEvent>,
    /// Kinds of the custom messages of handlers that it passes on.
    pub kinds: Vec<NamePattern>,
    /// The namespaces of these events, as of clients or of apps. Empty: all.
    pub namespaces: Vec<String>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// Attempts after which a delivery is dropped.
    pub attempts: u32,
    /// Age at which a delivery is dropped once an attempt fails.
    pub give_up_after: Duration,
    /// Attempts at a time, from this node.
    pub concurrency: usize,
}

impl WebhookSettings {
    /// Whether it tells of this topic of an event. `app` is the app's namespace or pattern.
    pub(super) fn selects(&self, topic: &Topic<'_>, event: &Event, app: Option<&Namespace>) -> bool {
        let is_named =
            |name: &String| *name == event.namespace.as_str() || app.is_some_and(|app| *name == app.as_str());
        let is_of_interest = match topic {
            Topic::Event(event) => self.events.contains(event),
            Topic::Custom { kind, .. } => self.kinds.iter().any(|pattern| pattern.matches(kind)),
        };
        is_of_interest && (self.namespaces.is_empty() || self.namespaces.iter().any(is_named))
    }
}
