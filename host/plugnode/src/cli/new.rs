//! `plugnode new`: creates the project of a handler, with a page and tests.

mod from_node;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

pub(super) use from_node::{line_of_pattern, namespaces_in};

/// Arguments of `plugnode new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode new hello                        a handler in Rust
  plugnode new hello --lang js              in JavaScript, without npm
  plugnode new --from server.js             plugnode.toml for an existing program, written for Node's Socket.IO")]
pub struct NewArgs {
    /// Folder to create; its last part is the name of the handler
    #[arg(required_unless_present = "from")]
    pub name: Option<PathBuf>,
    /// Language of the handler
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: Language,
    /// Folder of plugnode's guest-sdk to depend on, for Rust [default: the released SDK]
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
    /// Write a plugnode.toml beside this script, which was written for Node's Socket.IO
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["name", "lang", "sdk"])]
    pub from: Option<PathBuf>,
}

/// Language of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Rust, with plugnode-sdk
    Rust,
    /// JavaScript, with the API of Node's Socket.IO
    Js,
    /// TypeScript, with the API of Node's Socket.IO
    Ts,
    /// Python
    Python,
}

/// Path and contents of a file. `{{name}}`, `{{module}}`, `{{component}}` and `{{sdk}}` in the contents are replaced.
type TemplateFile = (&'static str, &'static str);

macro_rules! template {
    ($($path:literal from $source:literal),* $(,)?) => { &[$(($path, include_str!(concat!("templates/", $source)))),*] };
}

const RUST: &[TemplateFile] = template! {
    "Cargo.toml" from "rust/Cargo.toml.in",
    "src/lib.rs" from "rust/lib.rs.in",
    "events.toml" from "rust/events.toml.in",
    "plugnode.toml" from "rust/plugnode.toml.in",
    "README.md" from "rust/README.md.in",
    ".gitignore" from "rust/gitignore.in",
};
const JS: &[TemplateFile] = template! {
    "package.json" from "js/package.json.in",
    "jsconfig.json" from "js/jsconfig.json.in",
    "server.js" from "js/server.js.in",
    "events.toml" from "js/events.toml.in",
    "plugnode.toml" from "plugnode.toml.in",
    "README.md" from "js/README.md.in",
    ".gitignore" from "js/gitignore.in",
};
const TS: &[TemplateFile] = template! {
    "package.json" from "ts/package.json.in",
    "tsconfig.json" from "ts/tsconfig.json.in",
    "server.ts" from "ts/server.ts.in",
    "events.toml" from "js/events.toml.in",
    "plugnode.toml" from "plugnode.toml.in",
    "README.md" from "ts/README.md.in",
    ".gitignore" from "ts/gitignore.in",
};
const PYTHON: &[TemplateFile] = template! {
    "app.py" from "python/app.py.in",
    "events.toml" from "python/events.toml.in",
    "pyproject.toml" from "python/pyproject.toml.in",
    "plugnode.toml" from "plugnode.toml.in",
    "README.md" from "python/README.md.in",
    ".gitignore" from "python/gitignore.in",
};
const PAGE: &[TemplateFile] = template! {
    "public/index.html" from "public/index.html.in",
};
/// Types of the modules that scripts import, for editors and compilers: those of the npm package, by a symbolic link.
const TYPES: &[TemplateFile] = template! {
    "types/globals.d.ts" from "types/globals.d.ts",
    "types/plugnode.d.ts" from "types/plugnode.d.ts",
    "types/socket.io.d.ts" from "types/socket.io.d.ts",
    "types/cluster.d.ts" from "types/cluster.d.ts",
};

/// Creates the project, and prints the next commands.
pub(super) fn new(args: &NewArgs) -> Result<ExitCode> {
    if let Some(script) = &args.from {
        return from_node::write_settings(script);
    }
    let folder = args.name.as_deref().context("name the folder to create")?;
    let name = name_of(folder)?;
    if folder.exists() {
        bail!(
            "{} is there already; choose another name, or remove it",
            folder.display()
        );
    }
    let sdk = sdk(args.sdk.as_deref())?;
    let component = match args.lang {
        Language::Python => "app.wasm",
        _ => "server.wasm",
    };
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
            .replace("{{component}}", component)
            .replace("{{sdk}}", &sdk)
    };
    let (files, shared): (_, &[TemplateFile]) = match args.lang {
        Language::Rust => (RUST, &[]),
        Language::Js => (JS, TYPES),
        Language::Ts => (TS, TYPES),
        Language::Python => (PYTHON, &[]),
    };
    for (path, text) in files.iter().chain(PAGE) {
        write(&folder.join(path), &fill(text))?;
    }
    for (path, text) in shared {
        write(&folder.join(path), text)?;
    }
    let folder = folder.display();
    println!("created {folder}; go on with:");
    match args.lang {
        Language::Rust | Language::Js | Language::Python => println!("  plugnode dev {folder}"),
        Language::Ts => println!("  npm install --prefix {folder}\n  plugnode dev {folder}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Name of the handler: the last part of the folder, if it is valid as the name of a crate, a package and a module.
fn name_of(folder: &Path) -> Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
        bail!(
            "`{name}` is not a valid name for a handler; use lower-case letters, digits, `-` and `_`, and begin with a letter"
        );
    }
    Ok(name)
}

/// The SDK dependency in Cargo.toml: the released version, or a path.
fn sdk(checkout: Option<&Path>) -> Result<String> {
    let Some(folder) = checkout else {
        return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))?;
    if !folder.join("Cargo.toml").is_file() {
        bail!(
            "{} has no Cargo.toml; name the folder guest-sdk of plugnode's source by --sdk",
            folder.display()
        );
    }
    let path = toml::Value::String(folder.to_string_lossy().into_owned());
    Ok(format!("{{ path = {path} }}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path
        .parent()
        .with_context(|| format!("{} has no parent folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
