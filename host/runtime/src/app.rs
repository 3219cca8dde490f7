//! The state that all instances of a pool share.

use std::sync::Arc;

use wasmtime_wasi_config::WasiConfigVariables;

use crate::script::Script;
use crate::settings::AppSettings;

/// One app on one node, with the component that its pool runs.
pub(crate) struct App {
    pub(crate) settings: AppSettings,
    /// The app's configuration, for `wasi:config`.
    pub(crate) config: WasiConfigVariables,
    pub(crate) script: Script,
    /// The first 12 digits of the component's SHA-256.
    pub(crate) release: Arc<str>,
    /// The component's SHA-256.
    pub(crate) digest: String,
}
