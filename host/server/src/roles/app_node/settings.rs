//! `[app-node]`: the settings of an app-node.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_settings::{Millis, flat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::roles::node_name;
use plugnode_message::NodeId;

/// `[app-node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct AppNodeSettings {
    /// Name of this node in the cluster. It must be unique: a second node is refused while one of the name lives. Unset: made
    /// from the host's name and the process id.
    #[schemars(example = &"app-1")]
    pub name: Option<String>,
    /// Folder for compiled components, which makes the next start quick; `""` keeps none. The folder `compiled` in it must be
    /// writable by this user only. It keeps the 100 components used last, up to 4 GB, and up to 256 MB of compiled functions
    /// that later builds can share. Nodes of one machine may share it: each component is compiled once. Over Redis the bytes of
    /// components in use are kept there too, up to 1 GB, to be stored again after Redis loses them; with `""` these are in
    /// a temporary folder. Unset: `plugnode` in the user's cache folder.
    #[schemars(example = &"cache")]
    pub cache_dir: Option<PathBuf>,
    /// Instances of all apps together on this node. Must be at least the sum of the apps' `max-instances`, or
    /// `instances` where that is unset.
    pub max_instances: usize,
    /// How failed events are retried.
    #[serde(flatten, skip_deserializing)]
    pub retries: Retries,
    /// Releases of an app that `plugnode rollback` can return to, 2 to 1000. Their components stay in the transport's store.
    pub kept_releases: usize,
}
flat!(AppNodeSettings { retries: Retries });

/// How a failed event is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Attempts to handle an event, the first included, before it becomes a dead letter.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles before each further one.
    #[serde(rename = "retry-delay-ms", with = "Millis")]
    pub delay: Duration,
}

impl Default for AppNodeSettings {
    fn default() -> Self {
        Self {
            name: None,
            cache_dir: None,
            max_instances: 256,
            retries: Retries::default(),
            kept_releases: plugnode_release::DEFAULT_KEPT_RELEASES,
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 3,
            delay: Duration::from_millis(100),
        }
    }
}

impl AppNodeSettings {
    /// The name of this process as an app-node.
    pub fn node_name(&self) -> NodeId {
        node_name(self.name.as_deref(), "app")
    }

    /// The folder for compiled components. None: they are not cached.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        match &self.cache_dir {
            Some(folder) if folder.as_os_str().is_empty() => None,
            Some(folder) => Some(folder.clone()),
            None => user_cache_folder().map(|folder| folder.join("plugnode")),
        }
    }
}

fn user_cache_folder() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}
