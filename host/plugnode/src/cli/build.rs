//! Builds a handler crate to a component by cargo, and finds the file that came of it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::progress;

const TARGET: &str = "wasm32-wasip2";
/// Names another cargo than the one in PATH.
const CARGO: &str = "PLUGNODE_GUEST_CARGO";

/// What a build made.
pub(super) struct Built {
    /// The component.
    pub(super) component: PathBuf,
    /// Folders of the crates that are no one else's: the handler's own, and those it depends on by path.
    pub(super) crates: Vec<PathBuf>,
}

/// Builds the crate in a folder. The error holds what the compiler said.
pub(super) async fn build(folder: &Path) -> Result<Built> {
    let cargo = std::env::var_os(CARGO)
        .filter(|cargo| !cargo.is_empty())
        .unwrap_or_else(|| "cargo".into());
    let manifest = folder
        .join("Cargo.toml")
        .canonicalize()
        .with_context(|| format!("{}", folder.display()))?;
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
            "cannot run {}; install Rust (https://rustup.rs), or name its cargo by {CARGO}",
            cargo.display()
        )
    })?;
    let said = Mutex::new(String::new());
    let what = || {
        let said = said.lock().expect("nothing panics while it holds this lock");
        // Such as that it waits for another cargo.
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("building {}: {}", folder.display(), last.trim())
    };
    let (status, artifacts) = progress::during(what, progress::say, listen(child, &said)).await?;
    if !status.success() {
        let said = said.into_inner().expect("nothing panics while it holds this lock");
        let remedy = match said.contains(TARGET) && said.contains("may not be installed") {
            true => format!("\ninstall the target: rustup target add {TARGET}"),
            false => String::new(),
        };
        bail!("{} does not build\n{}{remedy}", folder.display(), said.trim_end());
    }
    find_component(&artifacts, &manifest)
}

/// Hears all that a process says, one half as it comes.
pub(super) async fn listen(mut child: Child, said: &Mutex<String>) -> Result<(ExitStatus, Vec<u8>)> {
    let mut stdout = child.stdout.take().context("the output is piped")?;
    let stderr = child.stderr.take().context("the errors are piped")?;
    let mut artifacts = Vec::new();
    let errors = async {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await? > 0 {
            said.lock()
                .expect("nothing panics while it holds this lock")
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(stdout.read_to_end(&mut artifacts), errors)?;
    Ok((child.wait().await?, artifacts))
}

/// A line of cargo's, of which only artifacts matter.
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

fn find_component(lines: &[u8], manifest: &Path) -> Result<Built> {
    let mut component = None;
    let mut crates = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
        let Message::CompilerArtifact {
            package_id,
            manifest_path,
            target,
            filenames,
        } = serde_json::from_slice(line).context("cannot read what cargo says of its artifacts")?
        else {
            continue;
        };
        let is_ours = manifest_path.canonicalize().is_ok_and(|path| path == manifest);
        if is_ours && target.kind.iter().any(|kind| kind == "cdylib") {
            component = filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|of| of == "wasm"))
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
            "{} makes no component; give it a [lib] with crate-type = [\"cdylib\", \"rlib\"]",
            manifest.display()
        )
    })?;
    Ok(Built { component, crates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_the_artifacts() {
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
