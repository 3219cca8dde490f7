//! `plugnode build`: writes a handler as a component file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::project::Project;
use super::runtime;

/// Arguments of `plugnode build`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
PATH is a script, or a folder with one of
  package.json     whose `main` names the script
  pyproject.toml   and app.py, main.py or server.py
  Cargo.toml       a Rust crate, built by cargo for wasm32-wasip2
  plugnode.toml    with a [build] command, for any other toolchain

esbuild bundles TypeScript, and JavaScript that imports files or packages: npm install --save-dev esbuild, or set
PLUGNODE_ESBUILD to its path. A Python program includes all modules in its folder.

Examples:
  plugnode build server.js                  server.wasm, without npm
  plugnode build src/app.ts -o app.wasm
  plugnode build app.py
  plugnode build && plugnode deploy app.wasm")]
pub struct BuildArgs {
    /// Script, or folder of a handler
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// File to write [default: the name of the script or crate with .wasm, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Runtime component for the script [default: plugnode-js.wasm or plugnode-py.wasm beside plugnode or in the npm package]
    #[arg(long, value_name = "FILE")]
    pub runtime: Option<PathBuf>,
}

/// Builds the component and writes it.
pub(super) fn build(args: &BuildArgs) -> Result<ExitCode> {
    let project = Project::open(&args.path)?;
    let Some((name, component)) = runtime::block_on(project.build(args.runtime.as_deref()))? else {
        bail!(
            "cannot build {}: it is neither a script nor a folder; name a .js, .ts or .py file, or the folder of a handler",
            args.path.display()
        );
    };
    let output = args.output.clone().unwrap_or(name);
    std::fs::write(&output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), component.len());
    Ok(ExitCode::SUCCESS)
}
