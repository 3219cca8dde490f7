//! Builds a handler crate with cargo, and finds the component among the artifacts.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::child::{ErrorOutput, output_of};
use super::terminal;

const TARGET: &str = "wasm32-wasip2";
/// Environment variable with the path of cargo.
const CARGO_VARIABLE: &str = "PLUGNODE_GUEST_CARGO";

/// Result of a build.
pub(super) struct CargoBuild {
    /// File of the component.
    pub(super) component: PathBuf,
    /// Folders of the crates to watch: the handler's, and its dependencies by path.
    pub(super) crates: Vec<PathBuf>,
}

/// Builds the crate in `folder`.
///
/// # Errors
/// With the compiler's output, if the crate does not build.
pub(super) async fn build(folder: &Path) -> Result<CargoBuild> {
    let cargo = std::env::var_os(CARGO_VARIABLE)
        .filter(|cargo| !cargo.is_empty())
        .unwrap_or_else(|| "cargo".into());
    let manifest = folder
        .join("Cargo.toml")
        .canonicalize()
        .with_context(|| format!("cannot find Cargo.toml in {}", folder.display()))?;
    let mut command = Command::new(&cargo);
    command.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
    ]);
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| {
        format!(
            "cannot run {}; install Rust (https://rustup.rs), or set {CARGO_VARIABLE} to the path of cargo",
            cargo.display()
        )
    })?;
    let errors = ErrorOutput::default();
    // The last line may say that cargo waits for a lock.
    let what = || format!("building {}: {}", folder.display(), errors.last_line());
    let (status, artifacts) = terminal::during(what, terminal::say, output_of(child, &errors)).await?;
    if !status.success() {
        let errors = errors.into_text();
        let remedy = match errors.contains(TARGET) && errors.contains("may not be installed") {
            true => format!("\ninstall the target: rustup target add {TARGET}"),
            false => String::new(),
        };
        bail!("{} does not build\n{}{remedy}", folder.display(), errors.trim_end());
    }
    find_component(&artifacts, &manifest)
}

/// A line of cargo's JSON output.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// Finds the component of the crate with this manifest in cargo's JSON output.
fn find_component(lines: &[u8], manifest: &Path) -> Result<CargoBuild> {
    let mut component = None;
    let mut crates = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
        let Message::CompilerArtifact {
            package_id,
            manifest_path,
            target,
            filenames,
        } = serde_json::from_slice(line).context("cannot parse the JSON output of cargo")?
        else {
            continue;
        };
        let is_handler = manifest_path.canonicalize().is_ok_and(|path| path == manifest);
        if is_handler && target.kind.iter().any(|kind| kind == "cdylib") {
            component = filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
                .or(component);
        }
        if let Some(folder) = manifest_path.parent().filter(|_| package_id.starts_with("path+file:"))
            && !crates.iter().any(|known| known == folder)
        {
            crates.push(folder.to_owned());
        }
    }
    let component = component.ok_or_else(|| {
        anyhow!(
            "{} builds no component; give it a [lib] with crate-type = [\"cdylib\", \"rlib\"]",
            manifest.display()
        )
    })?;
    Ok(CargoBuild { component, crates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_component_among_artifacts() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let manifest = folder.join("Cargo.toml");
        std::fs::write(&manifest, "").unwrap();
        let line = |id: &str, manifest: &Path, kind: &str, file: &str| {
            let json = serde_json::json!({
                "reason": "compiler-artifact", "package_id": id, "manifest_path": manifest,
                "target": { "kind": [kind], "name": "x" }, "filenames": [file], "fresh": true,
            });
            format!("{json}\n")
        };
        let other = Path::new("/cluster/serde/Cargo.toml");
        let lines = line("cluster+x#serde", other, "lib", "/t/libserde.rlib")
            + &line(
                "path+file:///sdk#0.1.0",
                Path::new("/sdk/Cargo.toml"),
                "lib",
                "/t/libsdk.rlib",
            )
            + &line("path+file:///hello#0.1.0", &manifest, "cdylib", "/t/hello.wasm")
            + "{\"reason\":\"build-finished\",\"success\":true}\n";
        let built = find_component(lines.as_bytes(), &manifest).unwrap();
        assert_eq!(built.component, Path::new("/t/hello.wasm"));
        assert_eq!(built.crates, [Path::new("/sdk"), &folder]);

        let lines = line("path+file:///hello#0.1.0", &manifest, "lib", "/t/libhello.rlib");
        let error = find_component(lines.as_bytes(), &manifest).err().unwrap();
        assert!(
            error.to_string().contains("crate-type = [\"cdylib\", \"rlib\"]"),
            "{error}"
        );
    }
}
