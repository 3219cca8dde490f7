//! `wasi:http`, outgoing requests only. `outgoing_http` has the client.

use wasmtime_wasi_http::p2::add_only_http_to_linker_async;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::definition::{Capability, Grant, Package};
use crate::state::InstanceState;

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:http",
        version: "0.2.12",
        interfaces: &["types", "outgoing-handler"],
    }],
    grant: Some(Grant {
        is_given: |grants| !grants.http.is_empty(),
        remedy: "name the hosts it may reach in the app's configuration, as in grants.http = [\"api.example.com\"]",
    }),
    link: add_only_http_to_linker_async::<InstanceState>,
};

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http.ctx,
            table: &mut self.table,
            hooks: &mut self.http.filter,
        }
    }
}
