//! Puts a JavaScript, TypeScript or Python program into the runtime component that interprets it.
//!
//! A single JavaScript file is embedded as it is. TypeScript, and JavaScript that imports files or packages, is bundled first by
//! esbuild, found in `node_modules` or PATH. A Python program is embedded with the modules in its folder. Without a bundler, the runtime
//! checks the syntax.

mod python;
mod source_map;
mod syntax;
mod unsupported;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::process::Command;

use plugnode_runtime::{ComponentInfo, Script};

/// File extensions of scripts, besides Python's.
const EXTENSIONS: [&str; 7] = ["js", "mjs", "cjs", "ts", "mts", "cts", "tsx"];
/// File name of a runtime component, and the environment variable that overrides its path.
type Runtime = (&'static str, &'static str);
const JAVASCRIPT: Runtime = ("plugnode-js.wasm", "PLUGNODE_JS_RUNTIME");
const PYTHON: Runtime = ("plugnode-py.wasm", "PLUGNODE_PY_RUNTIME");
/// Environment variable with the path of esbuild.
const ESBUILD_VARIABLE: &str = "PLUGNODE_ESBUILD";
/// Modules that the JavaScript runtime provides, with or without the prefix `node:`.
const BUILT_IN: [&str; 29] = [
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
    "stream",
    "assert",
    "perf_hooks",
    "querystring",
    "body-parser",
    "compression",
    "cookie-parser",
    "helmet",
    "morgan",
    "dotenv",
    "dotenv/config",
];
/// How esbuild marks an inline source map, at the end of a bundle.
const INLINE_MAP: &str = "//# sourceMappingURL=data:application/json;base64,";

/// The script at `path`: the file itself, or the one that the folder's package.json or pyproject.toml stands for. None if there is
/// none.
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
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", manifest.display()))?;
    let main = package.get("main").and_then(serde_json::Value::as_str);
    let script = path.join(main.unwrap_or("index.js"));
    if !script.is_file() {
        bail!(
            "there is no {}; set `main` in {} to the script",
            script.display(),
            manifest.display()
        );
    }
    Ok(is_script(&script).then_some(script))
}

/// Whether the file name has the extension of a script.
pub(super) fn is_script(path: &Path) -> bool {
    let is_known = |extension: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| extension == *known);
    python::is_program(path) || path.extension().is_some_and(is_known)
}

/// Whether the script is in Python.
pub(super) fn is_python(script: &Path) -> bool {
    python::is_program(script)
}

/// Builds the component of a script: its runtime component with the script embedded.
pub(super) async fn build_component(script: &Path, runtime: Option<&Path>) -> Result<Bytes> {
    let language = if python::is_program(script) { PYTHON } else { JAVASCRIPT };
    let (file, origin) = find_runtime(script, runtime, language)?;
    let bytes = std::fs::read(&file).with_context(|| format!("{origin}: cannot read {}", file.display()))?;
    let bytes = Bytes::from(bytes);
    if !ComponentInfo::read(&bytes).is_ok_and(|info| info.is_runtime()) {
        bail!(
            "{origin}: {} is not a runtime component for scripts; name {}",
            file.display(),
            language.0
        );
    }
    if python::is_program(script) {
        let files = python::files(script)?;
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_slice()))
            .collect();
        refuse(script, syntax::check_python(&bytes, script, &files).await)?;
        return Ok(Script::append(&bytes, &files).into());
    }
    let text = std::fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    refuse(script, unsupported::find(&name, &text, imports(&text)))?;
    let Some(reason) = reason_to_bundle(script, &text) else {
        refuse(script, syntax::check_javascript(&bytes, script, &name, &text).await)?;
        return Ok(Script::append(&bytes, &[(&name, text.as_bytes())]).into());
    };
    let (bundle, map) = bundle(script, &reason).await?;
    // A name of its own: the source map refers to the script by the script's name.
    let name = Path::new(&*name).with_extension("bundle.mjs");
    let name = name.to_string_lossy();
    let maps = source_map::files(&name, &map)?;
    let maps = maps.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
    let files: Vec<_> = std::iter::once((&*name, bundle.as_bytes())).chain(maps).collect();
    Ok(Script::append(&bytes, &files).into())
}

/// Fails if a script has errors.
fn refuse(script: &Path, errors: impl IntoIterator<Item = syntax::SourceError>) -> Result<()> {
    let folder = script.parent().unwrap_or(Path::new(""));
    let described: Vec<_> = errors.into_iter().map(|error| error.describe(folder)).collect();
    if described.is_empty() {
        return Ok(());
    }
    bail!("{} does not build\n{}", script.display(), described.join("\n"))
}

/// The path of the runtime component, and where it is from: `given`, the environment variable, beside the executable, or in node_modules.
fn find_runtime(script: &Path, given: Option<&Path>, (name, variable): Runtime) -> Result<(PathBuf, String)> {
    if let Some(given) = given {
        return Ok((given.to_owned(), "--runtime".to_owned()));
    }
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return Ok((path.into(), format!("variable {variable}")));
    }
    let executable = std::env::current_exe().ok();
    let beside = executable.iter().filter_map(|file| file.parent());
    let beside = beside.flat_map(|folder| [folder.join(name), folder.join("../components").join(name)]);
    let installed = ancestors(script).map(|folder| folder.join("node_modules/plugnode").join(name));
    let found = beside.chain(installed).find(|file| file.is_file());
    let package = match name == JAVASCRIPT.0 {
        true => ", and the npm package plugnode has it",
        false => "",
    };
    let found = found.with_context(|| {
        format!(
            "cannot find {name}, the runtime component for the script: `make build` in a checkout of plugnode writes it to \
             target/components{package}; copy it beside plugnode, or set {variable} to its path"
        )
    })?;
    Ok((found, "the runtime component".to_owned()))
}

/// The folders above a file, nearest first.
fn ancestors(file: &Path) -> impl Iterator<Item = PathBuf> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folders: Vec<_> = file.ancestors().skip(1).map(Path::to_owned).collect();
    folders.into_iter()
}

/// Why a script has to be bundled; none if it can be embedded as it is.
fn reason_to_bundle(script: &Path, text: &str) -> Option<String> {
    let extension = script.extension().unwrap_or_default().to_string_lossy();
    if !extension.ends_with("js") {
        return Some("it is TypeScript".to_owned());
    }
    let import = imports(text).map(|(_, name)| name).find(|name| {
        let bare = name.strip_prefix("node:").unwrap_or(name);
        !BUILT_IN.contains(&bare)
    });
    import.map(|name| format!("it imports {name:?}"))
}

/// Module names after `from`, `import` and `require`, with the places of these words, found without parsing. A false match, such as in a multi-line comment, only
/// causes an unnecessary bundle.
fn imports(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // Each keyword with the characters allowed between it and the quote. `Array.from("x")` is not an import.
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
            (!name.contains('\n')).then_some((at, name))
        })
    })
}

/// Bundles a script and its imports into one file. Returns it and its source map.
async fn bundle(script: &Path, reason: &str) -> Result<(String, Vec<u8>)> {
    let esbuild = find_esbuild(script);
    let mut command = Command::new(&esbuild);
    command.arg(script).args([
        "--bundle",
        "--format=esm",
        // Packages have variants for browsers, which like components have no modules of Node.
        "--platform=browser",
        // Otherwise esbuild sets it to "development" for browsers.
        "--define:process.env.NODE_ENV=process.env.NODE_ENV",
        "--target=es2023",
        "--sourcemap=inline",
        "--log-level=warning",
        "--color=false",
    ]);
    command.args(BUILT_IN.map(|name| format!("--external:{name}")));
    command.args(BUILT_IN.map(|name| format!("--external:node:{name}")));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| {
        format!(
            "cannot run {} to bundle {}, which needs it because {reason}; run npm install --save-dev esbuild, or set {ESBUILD_VARIABLE} to its path",
            esbuild.display(),
            script.display()
        )
    })?;
    if !output.status.success() {
        let errors = unsupported::explain(&String::from_utf8_lossy(&output.stderr));
        bail!("{} does not build\n{}", script.display(), errors.trim_end());
    }
    let text = String::from_utf8(output.stdout).context("the bundle that esbuild wrote is not UTF-8")?;
    let Some((bundle, map)) = text.rsplit_once(INLINE_MAP) else {
        bail!("the bundle that esbuild wrote has no source map; use esbuild 0.17 or newer");
    };
    let map = STANDARD
        .decode(map.trim())
        .context("cannot read the source map that esbuild wrote")?;
    Ok((bundle.to_owned(), map))
}

fn find_esbuild(script: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os(ESBUILD_VARIABLE).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let installed = ancestors(script).map(|folder| folder.join("node_modules/.bin/esbuild"));
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
    fn single_javascript_file_is_not_bundled() {
        let text = "import { Server } from \"plugnode/socket.io\";\nconst { join } = require('node:path');\n";
        assert_eq!(reason("app.js", text), None);
        assert_eq!(reason("app.cjs", "const important = 'x'; // from here\n"), None);
        let text = "// import x from 'y'\nArray.from(\"abc\"); Buffer.from('aGk='); const a = 'from', b = \"x\"; this.require('x')";
        assert_eq!(reason("app.js", text), None);
    }

    #[test]
    fn typescript_and_imports_are_bundled() {
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
    fn package_json_main_names_the_script() {
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
