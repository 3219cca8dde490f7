//! `plugnode new`: the project of a new handler, with a page to try it by.

mod from;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// Arguments of `plugnode new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode new hello                        a handler in Rust
  plugnode new hello --lang ts              in TypeScript; js needs no npm
  plugnode new --from server.js             plugnode.toml for a program that is there, written for Node's Socket.IO")]
pub struct Arguments {
    /// The folder to make; its last part names the handler
    #[arg(required_unless_present = "from")]
    pub name: Option<PathBuf>,
    /// What the handler is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: Language,
    /// A checkout of plugnode's guest-sdk to depend on, instead of the released one [Rust only]
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
    /// Write plugnode.toml beside a script that was written for Node's Socket.IO
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["name", "lang", "sdk"])]
    pub from: Option<PathBuf>,
}

/// What a handler can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Rust, with plugnode-sdk
    Rust,
    /// JavaScript, as for Node's Socket.IO
    Js,
    /// TypeScript, as for Node's Socket.IO
    Ts,
    /// Python
    Python,
}

/// A file of a template. `{{name}}`, `{{module}}` and `{{sdk}}` in it are filled in.
type File = (&'static str, &'static str);

macro_rules! template {
    ($($path:literal from $source:literal),* $(,)?) => { &[$(($path, include_str!(concat!("templates/", $source)))),*] };
}

const RUST: &[File] = template! {
    "Cargo.toml" from "rust/Cargo.toml.in",
    "src/lib.rs" from "rust/lib.rs.in",
    "README.md" from "rust/README.md.in",
    ".gitignore" from "rust/gitignore.in",
};
const JS: &[File] = template! {
    "package.json" from "js/package.json.in",
    "jsconfig.json" from "js/jsconfig.json.in",
    "server.js" from "js/server.js.in",
    "README.md" from "js/README.md.in",
    ".gitignore" from "js/gitignore.in",
};
const TS: &[File] = template! {
    "package.json" from "ts/package.json.in",
    "tsconfig.json" from "ts/tsconfig.json.in",
    "server.ts" from "ts/server.ts.in",
    "README.md" from "ts/README.md.in",
    ".gitignore" from "ts/gitignore.in",
};
const PYTHON: &[File] = template! {
    "app.py" from "python/app.py.in",
    "pyproject.toml" from "python/pyproject.toml.in",
    "README.md" from "python/README.md.in",
    ".gitignore" from "python/gitignore.in",
};
const PAGE: &[File] = template! {
    "public/index.html" from "public/index.html.in",
};
/// What scripts import, for editors and compilers. A link leads to the types of the npm package.
const TYPES: &[File] = template! {
    "types/globals.d.ts" from "types/globals.d.ts",
    "types/plugnode.d.ts" from "types/plugnode.d.ts",
    "types/socket.io.d.ts" from "types/socket.io.d.ts",
    "types/cluster.d.ts" from "types/cluster.d.ts",
};

/// Writes the project, and says how to go on.
pub fn new(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(script) = &arguments.from {
        return from::settings_of(script);
    }
    let folder = arguments.name.as_deref().context("name the folder to make")?;
    let name = name_of(folder)?;
    if folder.exists() {
        bail!(
            "{} is there already; choose another name, or remove it",
            folder.display()
        );
    }
    let sdk = sdk(arguments.sdk.as_deref())?;
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
            .replace("{{sdk}}", &sdk)
    };
    let (files, shared): (_, &[File]) = match arguments.lang {
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
    println!("made {folder}; go on with:");
    match arguments.lang {
        Language::Rust | Language::Js | Language::Python => println!("  plugnode dev {folder}"),
        Language::Ts => println!("  npm install --prefix {folder}\n  plugnode dev {folder}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A name that is one for a crate, a package and a module alike.
fn name_of(folder: &Path) -> Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
        bail!("`{name}` cannot name a handler; use lower-case letters, digits, `-` and `_`, and begin with a letter");
    }
    Ok(name)
}

fn sdk(checkout: Option<&Path>) -> Result<String> {
    let Some(folder) = checkout else {
        return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))?;
    if !folder.join("Cargo.toml").is_file() {
        bail!(
            "{} has no Cargo.toml; name the folder guest-sdk of plugnode's sources",
            folder.display()
        );
    }
    let path = toml::Value::String(folder.to_string_lossy().into_owned());
    Ok(format!("{{ path = {path} }}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
