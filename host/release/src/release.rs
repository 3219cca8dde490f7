//! One release of an app: a component that was deployed, where it came from, and its state.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A deployed component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// 1 for the app's first, and one more for each.
    pub number: u64,
    /// The component.
    pub digest: Digest,
    /// The file it was read from, for display.
    pub file: String,
    /// Size of the component in bytes.
    pub bytes: u64,
    /// When it was created, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How it was created: by a deploy, a rollback, a configuration or a save.
    pub origin: Origin,
    /// Its state.
    pub state: ReleaseState,
    /// Whether it has handled an event successfully. A current release that has not is reverted if its first event fails.
    #[serde(default)]
    pub is_tried: bool,
    /// Why an event failed, while it is current and has handled none successfully.
    #[serde(rename = "trouble", default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    /// The author of the deploy. None from versions of plugnode that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// The author's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The author of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Login name.
    pub user: String,
    /// Host name.
    pub host: String,
}

/// The origin of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The component in a node's configuration, for an app without releases.
    Config,
    /// `plugnode deploy`. It may be an app's first release.
    Deploy,
    /// `plugnode rollback` to the component of this release.
    Rollback(u64),
    /// A saved file, under `plugnode dev`.
    Save,
}

/// The state of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// It is being rolled out.
    RollingOut,
    /// It is in use.
    Current,
    /// It was in use.
    Retired,
    /// Its rollout failed, or it was reverted while in use, for this reason.
    Failed(String),
    /// Its rollout ended because this release was deployed.
    Superseded(u64),
    /// Its rollout was ended by a rollback.
    Cancelled,
}

/// A component to create a release from.
#[derive(Debug, Clone)]
pub struct ComponentFile {
    /// The component.
    pub digest: Digest,
    /// The file it was read from, for display.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
}

impl ComponentFile {
    pub(crate) fn release(self, number: u64, at_ms: u64, origin: Origin, state: ReleaseState) -> Release {
        Release {
            number,
            digest: self.digest,
            file: self.file,
            bytes: self.bytes,
            at_ms,
            origin,
            state,
            is_tried: false,
            first_failure: None,
            author: None,
            message: None,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RollingOut => f.write_str("is being rolled out"),
            Self::Current => f.write_str("is in use"),
            Self::Retired => f.write_str("was in use"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Superseded(by) => write!(f, "was superseded by release {by}"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}
