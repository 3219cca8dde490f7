//! `plugnode build`: a script and the runtime that runs it become a component.
//!
//! A single file of JavaScript is taken as it is. What imports other files or packages, or is TypeScript, is bundled first, by
//! esbuild, which is looked for beside the script and in PATH. A program in Python is taken with the modules in its folder.

mod python;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::process::Command;

use super::project::Project;
use super::runtime;
use plugnode_runtime::{ComponentInfo, Script};

/// What a script may be called.
const KINDS: [&str; 7] = ["js", "mjs", "cjs", "ts", "mts", "cts", "tsx"];
/// A runtime as it is shipped, beside the executable or in the npm package `plugnode`, and the variable that names another.
type Runtime = (&'static str, &'static str);
const JAVASCRIPT: Runtime = ("plugnode-js.wasm", "PLUGNODE_JS_RUNTIME");
const PYTHON: Runtime = ("plugnode-py.wasm", "PLUGNODE_PY_RUNTIME");
/// Names another esbuild than the one that is found.
const ESBUILD_VARIABLE: &str = "PLUGNODE_ESBUILD";
/// What the runtime has itself, with or without `node:` before it.
const BUILT_IN: [&str; 18] = [
    "plugnode",
    "plugnode/socket.io",
    "plugnode/cluster",
    "socket.io",
    "socket.io-cluster",
    "http",
    "https",
    "express",
    "cors",
    "buffer",
    "path",
    "events",
    "crypto",
    "util",
    "url",
    "timers",
    "timers/promises",
    "process",
];
/// With which esbuild ends a bundle whose source map is in it.
const INLINE_MAP: &str = "//# sourceMappingURL=data:application/json;base64,";

/// Arguments of `plugnode build`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
PATH is a script, or a folder whose package.json names one as `main`, which has a pyproject.toml and an app.py, a Cargo.toml, or a
plugnode.toml with a [build] command, for any other toolchain. Files and packages that JavaScript imports, and TypeScript, are
bundled by esbuild: npm install --save-dev esbuild, or name one by PLUGNODE_ESBUILD. A program in Python is taken with all modules
in its folder.

Examples:
  plugnode build server.js                  server.wasm, without npm
  plugnode build src/app.ts -o app.wasm
  plugnode build app.py
  plugnode build && plugnode deploy app.wasm")]
pub struct Arguments {
    /// A script, or the folder of a handler
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// The file to write [default: the name of what is built, with .wasm, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The runtime component [default: plugnode-js.wasm or plugnode-py.wasm beside plugnode, or that of the npm package]
    #[arg(long, value_name = "FILE")]
    pub runtime: Option<PathBuf>,
}

/// Writes the component.
pub fn build(arguments: &Arguments) -> Result<ExitCode> {
    let project = Project::at(&arguments.path)?;
    let Some((name, component)) = runtime::block_on(project.build(arguments.runtime.as_deref()))? else {
        bail!(
            "{} is built already, or no script; name a .js, .ts or .py file, or the folder of a handler",
            arguments.path.display()
        );
    };
    let output = arguments.output.clone().unwrap_or(name);
    std::fs::write(&output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), component.len());
    Ok(ExitCode::SUCCESS)
}

/// The script at a path, if it is one or the folder of one.
pub(super) fn find_script(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        return Ok(is_script(path).then(|| path.to_owned()));
    }
    let manifest = path.join("package.json");
    if !manifest.is_file() {
        return python::find(path);
    }
    let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let package: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", manifest.display()))?;
    let main = package.get("main").and_then(serde_json::Value::as_str);
    let script = path.join(main.unwrap_or("index.js"));
    if !script.is_file() {
        bail!(
            "there is no {}; name the script as `main` in {}",
            script.display(),
            manifest.display()
        );
    }
    Ok(is_script(&script).then_some(script))
}

pub(super) fn is_script(path: &Path) -> bool {
    let is_javascript = |kind: &std::ffi::OsStr| KINDS.iter().any(|known| kind == *known);
    python::is_program(path) || path.extension().is_some_and(is_javascript)
}

/// The runtime with the script in it.
pub(super) async fn component_of(script: &Path, runtime: Option<&Path>) -> Result<Bytes> {
    let wanted = if python::is_program(script) { PYTHON } else { JAVASCRIPT };
    let place = find_runtime(script, runtime, wanted)?;
    let bytes = std::fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
    let bytes = Bytes::from(bytes);
    if !ComponentInfo::read(&bytes).is_ok_and(|info| info.is_runtime()) {
        bail!(
            "{} is no runtime of scripts; name another by --runtime",
            place.display()
        );
    }
    if python::is_program(script) {
        let files = python::files(script)?;
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_slice()))
            .collect();
        return Ok(Script::append(&bytes, &files).into());
    }
    let text = std::fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    let Some(reason) = reason_to_bundle(script, &text) else {
        return Ok(Script::append(&bytes, &[(&name, text.as_bytes())]).into());
    };
    let (bundle, map) = bundle(script, &reason).await?;
    // What it is made of has its own name in the map.
    let name = Path::new(&*name).with_extension("bundle.mjs");
    let name = name.to_string_lossy();
    let map_name = format!("{name}.map");
    let files = [(&*name, bundle.as_bytes()), (map_name.as_str(), map.as_slice())];
    Ok(Script::append(&bytes, &files).into())
}

fn find_runtime(script: &Path, given: Option<&Path>, (name, variable): Runtime) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(named) = std::env::var_os(variable).filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let executable = std::env::current_exe().ok();
    let beside = executable.iter().filter_map(|executable| executable.parent());
    let beside = beside.flat_map(|folder| [folder.join(name), folder.join("../components").join(name)]);
    let installed = above(script).map(|folder| folder.join("node_modules/plugnode").join(name));
    let found = beside.chain(installed).find(|file| file.is_file());
    found.with_context(|| {
        format!("cannot find {name}, which runs scripts: put it beside plugnode, or name it by --runtime or {variable}")
    })
}

/// The folders of a file, from its own upwards.
fn above(file: &Path) -> impl Iterator<Item = PathBuf> {
    let whole = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folders: Vec<_> = whole.ancestors().skip(1).map(Path::to_owned).collect();
    folders.into_iter()
}

/// Why a script cannot be taken as it is. None when it can.
fn reason_to_bundle(script: &Path, text: &str) -> Option<String> {
    let kind = script.extension().unwrap_or_default().to_string_lossy();
    if !kind.ends_with("js") {
        return Some("it is TypeScript".to_owned());
    }
    let import = imports(text).find(|name| {
        let bare = name.strip_prefix("node:").unwrap_or(name);
        !BUILT_IN.contains(&bare)
    });
    import.map(|name| format!("it imports {name:?}"))
}

/// The names after `from`, `import` and `require`. One too many, as in a comment of several lines, only means a bundle that was
/// not needed.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    // What may stand between the word and the quote: `Array.from("x")` imports nothing.
    const WORDS: [(&str, &[char]); 3] = [("from", &[' ']), ("import", &[' ', '(']), ("require", &[' ', '('])];
    WORDS.into_iter().flat_map(move |(word, between)| {
        text.match_indices(word).filter_map(move |(at, _)| {
            let is_in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '"' | '\'');
            let line = text[..at].rsplit('\n').next().unwrap_or_default();
            if line.ends_with(is_in_word) || line.trim_start().starts_with("//") {
                return None;
            }
            let rest = text[at + word.len()..].trim_start_matches(between);
            let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (name, _) = rest[1..].split_once(quote)?;
            (!name.contains('\n')).then_some(name)
        })
    })
}

/// One file of all, and its source map.
async fn bundle(script: &Path, reason: &str) -> Result<(String, Vec<u8>)> {
    let esbuild = find_esbuild(script);
    let mut command = Command::new(&esbuild);
    command.arg(script).args([
        "--bundle",
        "--format=esm",
        "--platform=neutral",
        "--main-fields=module,main",
        "--target=es2023",
        "--sourcemap=inline",
        "--log-level=warning",
        "--color=false",
        "--external:node:*",
    ]);
    command.args(BUILT_IN.map(|name| format!("--external:{name}")));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| {
        format!(
            "cannot run {}, which {} needs, because {reason}; npm install --save-dev esbuild, or name one by {ESBUILD_VARIABLE}",
            esbuild.display(),
            script.display()
        )
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} does not build\n{}", script.display(), said.trim_end());
    }
    let text = String::from_utf8(output.stdout).context("what esbuild made is not UTF-8")?;
    let Some((bundle, map)) = text.rsplit_once(INLINE_MAP) else {
        bail!("what esbuild made has no source map in it; use esbuild 0.17 or newer");
    };
    let map = STANDARD
        .decode(map.trim())
        .context("esbuild's source map cannot be read")?;
    Ok((bundle.to_owned(), map))
}

fn find_esbuild(script: &Path) -> PathBuf {
    if let Some(named) = std::env::var_os(ESBUILD_VARIABLE).filter(|named| !named.is_empty()) {
        return named.into();
    }
    let installed = above(script).map(|folder| folder.join("node_modules/.bin/esbuild"));
    let mut installed = installed.filter(|file| file.is_file());
    installed.next().unwrap_or_else(|| "esbuild".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(file: &str, text: &str) -> Option<String> {
        reason_to_bundle(Path::new(file), text)
    }

    #[test]
    fn single_files_need_no_bundler() {
        let text = "import { Server } from \"plugnode/socket.io\";\nconst { join } = require('node:path');\n";
        assert_eq!(reason("app.js", text), None);
        assert_eq!(reason("app.cjs", "const important = 'x'; // from here\n"), None);
        let text = "// import x from 'y'\nArray.from(\"abc\"); Buffer.from('aGk='); const a = 'from', b = \"x\"; this.require('x')";
        assert_eq!(reason("app.js", text), None);
    }

    #[test]
    fn typescript_files_and_packages_need_a_bundler() {
        assert!(reason("app.ts", "").unwrap().contains("TypeScript"));
        assert!(reason("app.js", "import x from './x.js'").unwrap().contains("./x.js"));
        assert!(
            reason("app.js", "const x = require(\"lodash\")")
                .unwrap()
                .contains("lodash")
        );
        assert!(
            reason("app.js", "const x = await import('lodash')")
                .unwrap()
                .contains("lodash")
        );
    }

    #[test]
    fn a_folder_names_its_script_in_package_json() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_script(folder.path()).unwrap(), None);
        std::fs::write(folder.path().join("package.json"), r#"{ "main": "server.js" }"#).unwrap();
        let error = find_script(folder.path()).unwrap_err();
        assert!(error.to_string().contains("server.js"), "{error}");
        let script = folder.path().join("server.js");
        std::fs::write(&script, "").unwrap();
        assert_eq!(find_script(folder.path()).unwrap(), Some(script));
    }
}
