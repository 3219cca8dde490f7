//! The WebAssembly engine of the configured apps.

use std::path::{Path, PathBuf};

use plugnode_runtime::{Compiler, EngineSettings};

use super::settings::AppNodeSettings;
use crate::config::Config;

/// Settings of the engine that runs components.
pub fn engine_settings(config: &Config) -> EngineSettings {
    let memories = config.apps.iter().map(|app| app.handler.limits.memory);
    EngineSettings {
        max_instances: u32::try_from(config.app_node.max_instances).unwrap_or(u32::MAX),
        max_memory: memories.max().unwrap_or_default(),
        cache: cache(&config.app_node),
        compiler: compiler(),
    }
}

/// Compiles in a child process of this executable. `/proc/self/exe` is the running one, even if its file was replaced.
pub fn compiler() -> Compiler {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Compiler::ChildProcess(own.into());
    }
    std::env::current_exe().map_or(Compiler::InProcess, Compiler::ChildProcess)
}

/// The folder for compiled components. An unusable default folder disables the cache; the engine refuses an unusable configured one.
fn cache(app_node: &AppNodeSettings) -> Option<PathBuf> {
    let folder = app_node.cache_folder()?;
    if app_node.cache_dir.is_none()
        && let Err(error) = plugnode_runtime::check_cache(&folder)
    {
        tracing::warn!(%error, "compiled components are not kept");
        return None;
    }
    Some(folder)
}
