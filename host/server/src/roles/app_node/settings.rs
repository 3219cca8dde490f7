//! Settings of an app-node and its apps.

use std::time::Duration;

use bytes::Bytes;

use super::webhooks::WebhookSettings;
use plugnode_message::NodeId;
use plugnode_runtime::{AppSettings, Native};

/// Settings of an app-node.
pub struct AppNodeSettings {
    /// Its name, unique in the cluster.
    pub name: NodeId,
    /// The apps that run components.
    pub apps: Vec<AppSource>,
    /// The apps that run handlers in native Rust.
    pub native: Vec<NativeApp>,
    /// How failed events are retried.
    pub retries: Retries,
    /// The programs that are told of events.
    pub webhooks: Vec<WebhookSettings>,
    /// Number of partitions of the transport.
    pub partitions: u16,
    /// Number of releases of an app that the board keeps.
    pub kept_releases: usize,
}

/// An app, and the component that becomes its first release if it has none.
pub struct AppSource {
    /// The app.
    pub settings: AppSettings,
    /// The component's file, for log lines and errors.
    pub file: String,
    /// The component, or why it could not be read.
    pub component: std::result::Result<Bytes, String>,
}

/// An app whose handler is native Rust. It has no releases: a new version is a new program.
pub struct NativeApp {
    /// The app.
    pub settings: AppSettings,
    /// The handler.
    pub handler: Native,
}

/// How a failed event is retried.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Number of attempts before an event becomes a dead letter. At least 1.
    pub attempts: u32,
    /// Delay before the second attempt. It doubles before each further one.
    pub delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 3,
            delay: Duration::from_millis(100),
        }
    }
}
