//! What an app-node is started with: its settings, and what comes from the rest of the process.

use bytes::Bytes;
use plugnode_message::NodeId;
use plugnode_runtime::{AppSettings, Native};

use super::settings::AppNodeSettings;
use super::webhooks::Webhooks;

/// What an app-node is started with.
pub struct AppNodeSetup {
    /// Its settings.
    pub settings: AppNodeSettings,
    /// Its name, unique in the cluster.
    pub name: NodeId,
    /// The apps that run components.
    pub apps: Vec<AppSource>,
    /// The apps that run handlers in native Rust.
    pub native: Vec<NativeApp>,
    /// The programs that are told of events.
    pub webhooks: Webhooks,
    /// Number of partitions of the transport.
    pub partitions: u16,
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
