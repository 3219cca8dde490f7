//! `[[app]]`: a namespace bound to a component.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plugnode_message::{KeyValue, NodeId};
use plugnode_runtime::{AppSettings, HandlerSettings};
use plugnode_settings::{Millis, flat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[app]]`: a namespace bound to a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct App {
    /// Socket.IO namespace. `{name}` stands for one segment, `{*name}` at the end for all that follow: `/shop/{id}` is for
    /// `/shop/1` and `/shop/2`. An app with the exact name comes before one with a pattern.
    pub namespace: String,
    /// The `.wasm` file, which becomes the app's first release. Required. Later releases come from `plugnode deploy`, also for
    /// nodes that start afterwards; over Redis the file is then no longer needed.
    #[schemars(example = &"chat.wasm")]
    pub component: PathBuf,
    /// Whether this process deploys the file each time it changes, as an alternative to `plugnode deploy`. Write the new file
    /// under another name and rename it, so that it is never read half written.
    pub watch: bool,
    /// Settings of its handler.
    #[serde(flatten, skip_deserializing)]
    pub handler: HandlerSettings,
    /// Time for the decision of `admission`; a client without one by then is refused.
    #[serde(rename = "admission-timeout-ms", with = "Millis")]
    pub admission_timeout: Duration,
}
flat!(App {
    handler: HandlerSettings
});

impl App {
    /// What its pool is started with on the app-node `node`.
    pub fn settings(&self, node: &NodeId, key_value: Arc<dyn KeyValue>) -> AppSettings {
        AppSettings {
            namespace: self.namespace.as_str().into(),
            node: node.clone(),
            handler: self.handler.clone(),
            key_value,
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            namespace: "/".into(),
            component: PathBuf::new(),
            watch: false,
            handler: HandlerSettings::default(),
            admission_timeout: Duration::from_secs(5),
        }
    }
}
