//! `wasmtime serve`: a component behind HTTP, as the makers of wasmtime serve it, of the very version of it that is in plugnode.
//!
//! The component is `http-echo/`. `.ci/setup-bench` builds both.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use plugnode_tests::{brought, repository};
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

/// More requests than there are in a run.
const ALL: &str = "1000000000";

impl Wasmtime {
    /// Where they were built.
    ///
    /// # Errors
    /// When one of them was not, with the command that does.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let found = Self {
            program: brought("bin/wasmtime"),
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
            .args(["-O", "pooling-allocator"])
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
