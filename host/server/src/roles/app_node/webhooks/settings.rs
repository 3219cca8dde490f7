//! The settings of a webhook.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signature::SigningSecret;
use plugnode_message::{Event, Namespace};

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
#[derive(Debug, Clone)]
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
    /// Whether it tells of this event. `app` is the app's namespace or pattern.
    pub(super) fn selects(&self, kind: WebhookEvent, event: &Event, app: Option<&Namespace>) -> bool {
        let is_named =
            |name: &String| *name == event.namespace.as_str() || app.is_some_and(|app| *name == app.as_str());
        self.events.contains(&kind) && (self.namespaces.is_empty() || self.namespaces.iter().any(is_named))
    }
}
