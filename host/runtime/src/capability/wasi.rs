//! WASI 0.2: clocks, random numbers, standard output and error. The interfaces for files, arguments, environment and sockets
//! are linked too, because standard libraries import them, but give access to nothing.

use wasmtime_wasi::{WasiCtxView, WasiView};

use super::definition::{Capability, Package};
use crate::state::InstanceState;

const VERSION: &str = "0.2.12";

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[
        Package {
            name: "wasi:io",
            version: VERSION,
            interfaces: &["error", "poll", "streams"],
        },
        Package {
            name: "wasi:clocks",
            version: VERSION,
            interfaces: &["monotonic-clock", "wall-clock"],
        },
        Package {
            name: "wasi:random",
            version: VERSION,
            interfaces: &["random", "insecure", "insecure-seed"],
        },
        Package {
            name: "wasi:cli",
            version: VERSION,
            interfaces: &[
                "environment",
                "exit",
                "stdin",
                "stdout",
                "stderr",
                "terminal-input",
                "terminal-output",
                "terminal-stdin",
                "terminal-stdout",
                "terminal-stderr",
            ],
        },
        Package {
            name: "wasi:filesystem",
            version: VERSION,
            interfaces: &["types", "preopens"],
        },
        Package {
            name: "wasi:sockets",
            version: VERSION,
            interfaces: &[
                "network",
                "instance-network",
                "ip-name-lookup",
                "tcp",
                "tcp-create-socket",
                "udp",
                "udp-create-socket",
            ],
        },
    ],
    grant: None,
    link: wasmtime_wasi::p2::add_to_linker_async::<InstanceState>,
};

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
