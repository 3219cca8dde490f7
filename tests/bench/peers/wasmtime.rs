//! `wasmtime serve`: a component behind HTTP, served by wasmtime's own server, in the version of wasmtime that plugnode uses.
//!
//! The component is `http-echo/`. `.ci/setup-bench` builds both, the server with its release profile.
//!
//! Best settings:
//! - The pooling allocator, with memory kept resident; PAGEMAP_SCAN finds the written pages, which are reset. A new instance then
//!   costs half as much.
//! - Two rows: one request per instance, which is the default, and instances that are reused for all requests.
//!
//! Tried without a difference above the noise: stacks kept resident, decommits in batches of 32, more warm slots, and 16 MB of
//! each memory kept resident instead of 2. Memory without copy-on-write images (`memory-init-cow=n`) is slower with PAGEMAP_SCAN.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use plugnode_tests::{installed_tool, repository};
use tokio::process::Command;

use crate::server::{Process, Server};

/// The server program, and the component.
pub(crate) struct Wasmtime {
    program: PathBuf,
    component: PathBuf,
}

/// The lifetime of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instances {
    /// A new instance for each request: the default for components of WASI 0.2.
    New,
    /// Instances are reused, as in plugnode.
    Reused,
}

/// The handler has 1.1 MB of memory, and a small table.
const POOLING: &str = "pooling-allocator=y,pooling-pagemap-scan=auto,pooling-memory-keep-resident=2097152,\
                       pooling-table-keep-resident=65536";
/// More requests than a run has.
const UNLIMITED: &str = "1000000000";

impl Wasmtime {
    /// Finds the program and the component.
    ///
    /// # Errors
    /// When one of them is not built; the message names the command that builds it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let found = Self {
            program: installed_tool("bin/wasmtime"),
            component: repository().join("target/guests/wasm32-wasip2/release/http_echo.wasm"),
        };
        for path in [&found.program, &found.component] {
            ensure!(
                path.exists(),
                "{} does not exist; build it with `.ci/setup-bench`",
                path.display()
            );
        }
        Ok(found)
    }

    /// Starts the server.
    pub(crate) async fn serve(&self, folder: &Path, instances: Instances) -> Server {
        let (name, requests) = match instances {
            Instances::New => ("wasmtime serve, new instances", "1"),
            Instances::Reused => ("wasmtime serve, reused instances", UNLIMITED),
        };
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--addr", "127.0.0.1:0", "--max-instance-reuse-count", requests])
            // Interfaces that Rust's standard library imports in every component; not called here.
            .args(["-S", "cli"])
            .args(["-O", POOLING])
            .arg(&self.component);
        let mut process = Process::start("wasmtime", command, folder);
        Server {
            name,
            ports: vec![process.port_after("Serving HTTP on http://").await],
            in_order: true,
            processes: vec![process],
        }
    }
}
