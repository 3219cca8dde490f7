//! `wasi:config`: the handler reads the `config` table of its app's configuration.

use wasmtime_wasi_config::WasiConfig;

use super::definition::{Capability, Package};
use crate::state::InstanceState;

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:config",
        version: "0.2.0-rc.1",
        interfaces: &["store"],
    }],
    grant: None,
    link: |linker| {
        wasmtime_wasi_config::add_to_linker(linker, |state: &mut InstanceState| WasiConfig::new(&state.app.config))
    },
};
