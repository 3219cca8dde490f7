//! `plugnode check`: whether a component could run here, and what it asks for, without running it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::progress::{during, say};
use super::runtime;
use crate::settings;
use crate::wasm::{Engine, EngineSettings, Grants, Outline};

/// The least that an engine is made for; check makes no instance.
const MEMORY: usize = 64 << 20;

/// Arguments of `plugnode check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The component
    #[arg(value_name = "APP.wasm")]
    pub component: PathBuf,
    /// A key-value bucket that the app's configuration will grant; may be given more than once
    #[arg(long, value_name = "BUCKET")]
    pub grant_keyvalue: Vec<String>,
    /// A host that the app's configuration will let it send HTTP requests to; may be given more than once
    #[arg(long, value_name = "HOST")]
    pub grant_http: Vec<String>,
}

/// Prints what the component is. The exit code says whether it could run.
pub fn check(arguments: &Arguments) -> Result<ExitCode> {
    let file = arguments.component.display();
    let bytes = std::fs::read(&arguments.component).with_context(|| format!("cannot read {file}"))?;
    let bytes = bytes::Bytes::from(bytes);
    let grants = Grants {
        keyvalue: arguments.grant_keyvalue.clone(),
        http: arguments.grant_http.clone(),
    };
    runtime::block_on(async {
        let engine = Engine::new(EngineSettings {
            max_instances: 1,
            max_memory: MEMORY,
            cache: None,
            compiler: settings::compiler(),
        })?;
        let loaded = during(|| format!("compiling {file}"), say, engine.load(bytes.clone(), &grants)).await;
        let outline = Outline::read(&bytes).ok();
        let asked = outline.iter().flat_map(|outline| {
            let exports = outline.exports.iter().map(|name| format!("  exports  {name}\n"));
            exports.chain(outline.imports.iter().map(|name| format!("  imports  {name}\n")))
        });
        let asked: String = asked.collect();
        match loaded {
            Ok(component) => {
                let (release, digest) = (component.release(), component.digest());
                print!("{file}: ok\n  release  {release}\n  sha256   {digest}\n{asked}");
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                print!("{file}: refused: {error}\n{asked}");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}
