//! `wasmtime serve`: a component behind HTTP, as the makers of wasmtime serve it, of the very version of it that is in plugnode.
//!
//! The component is `http-echo/`. `.ci/setup-bench` builds both, the program with the profile that it is released with.
//!
//! Its best settings:
//! - Instances of the pooling allocator. Their memory stays where it is, and what was written to is found by asking the kernel
//!   for it (PAGEMAP_SCAN) and reset: a new instance costs half of what it does without that.
//! - As many requests for each instance as come, in the second of two rows: the first has one for each, which is its way.
//!
//! Tried, and left as they are, since they differ by less than the rounds do: stacks that stay where they are, decommits in
//! batches of 32, more warm slots, and 16 MB of each memory that stay instead of 2. Memory that is no mapping of an image
//! (`memory-init-cow=n`) is slower with PAGEMAP_SCAN at hand.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use plugnode_tests::{installed_tool, repository};
use tokio::process::Command;

use crate::server::{Process, Server};

/// The program, and what it serves.
pub(crate) struct Wasmtime {
    program: PathBuf,
    component: PathBuf,
}

/// How long it keeps an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instances {
    /// Each request has one of its own: what it does with a component of WASI 0.2, unless it is told otherwise.
    New,
    /// They are used again and again, as plugnode's are.
    Kept,
}

/// The handler has 1.1 MB of memory, and a small table.
const POOLING: &str = "pooling-allocator=y,pooling-pagemap-scan=auto,pooling-memory-keep-resident=2097152,\
                       pooling-table-keep-resident=65536";
/// More requests than there are in a run.
const ALL: &str = "1000000000";

impl Wasmtime {
    /// Where they were built.
    ///
    /// # Errors
    /// When one of them was not, with the command that does.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let found = Self {
            program: installed_tool("bin/wasmtime"),
            component: repository().join("target/guests/wasm32-wasip2/release/http_echo.wasm"),
        };
        for path in [&found.program, &found.component] {
            ensure!(
                path.exists(),
                "{} is not there: build it by `.ci/setup-bench`",
                path.display()
            );
        }
        Ok(found)
    }

    /// Serves.
    pub(crate) async fn serve(&self, folder: &Path, instances: Instances) -> Server {
        let (name, uses) = match instances {
            Instances::New => ("wasmtime serve, new instances", "1"),
            Instances::Kept => ("wasmtime serve, kept instances", ALL),
        };
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--addr", "127.0.0.1:0", "--max-instance-reuse-count", uses])
            // What Rust's standard library imports for any component, and is never called here.
            .args(["-S", "cli"])
            .args(["-O", POOLING])
            .arg(&self.component);
        let mut process = Process::start("wasmtime", command, folder);
        Server {
            name,
            ports: vec![process.port_in("Serving HTTP on http://").await],
            in_order: true,
            processes: vec![process],
        }
    }
}
