//! `wasi:config`: the `config` table of the app's configuration.

use wasmtime_wasi_config::WasiConfig;

use super::{Capability, Package};
use crate::state::State;

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:config",
        version: "0.2.0-rc.1",
        interfaces: &["store"],
    }],
    grant: None,
    link: |linker| wasmtime_wasi_config::add_to_linker(linker, |state: &mut State| WasiConfig::new(&state.app.config)),
};
