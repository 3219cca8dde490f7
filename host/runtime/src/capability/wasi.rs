//! What a program compiled for WASI 0.2 expects to find: clocks, random numbers, standard output and error. The
//! interfaces for files, arguments, environment and sockets are there too, since standard libraries import them, and
//! there is nothing in them.

use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{Capability, Package};
use crate::output::{Output, Stream};
use crate::state::State;

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
    link: wasmtime_wasi::p2::add_to_linker_async::<State>,
};

/// A world with nothing in it but two streams.
pub(crate) fn closed_wasi(output: &Output) -> WasiCtx {
    WasiCtx::builder()
        .stdout(output.writer(Stream::Stdout))
        .stderr(output.writer(Stream::Stderr))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
