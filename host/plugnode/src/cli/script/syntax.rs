//! Checks the syntax of a script that no bundler has parsed: by its own runtime component, without running it.
//!
//! The runtime starts with files of our making. A Python program is preceded by one that parses it. A JavaScript program is changed so
//! that it is parsed and not evaluated.

use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;

use super::super::check;
use super::super::terminal::{during, say};
use plugnode_runtime::{Engine, EngineSettings, LoadError, Script};
use plugnode_server::config::{App, Config};
use plugnode_server::roles::app_node::engine_settings;
use plugnode_transport::{Memory, Transport, TransportSettings};

/// The program that parses a Python program.
const PYTHON_CHECK: (&str, &str) = ("plugnode/check_syntax.py", include_str!("check_syntax.py"));
/// How an error of that program begins; JSON follows.
const PYTHON_ERROR: &str = "SystemExit: ";
/// Ends a CommonJS script, which is the body of a function, before its first statement.
const RETURN: &str = "return;";
/// An import that no runtime has: a module with it is parsed, and not evaluated.
const NO_SUCH_IMPORT: &str = "\nimport \"plugnode:checked\";\n";
/// How an error of the JavaScript runtime begins, if it cannot parse the script.
const JAVASCRIPT_ERROR: &str = "SyntaxError: ";
/// Lines of the code frame before and after the error.
const CONTEXT: usize = 2;
/// Limit of a line in the code frame, in bytes.
const MAX_LINE: usize = 200;

/// An error in a file of the program.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct SourceError {
    /// Path relative to the program's folder.
    pub(super) file: String,
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    pub(super) message: String,
}

/// Checks a Python program: its files, the main file first.
pub(super) async fn check_python(runtime: &Bytes, program: &Path, files: &[(&str, &[u8])]) -> Option<SourceError> {
    let mut trial = vec![(PYTHON_CHECK.0, PYTHON_CHECK.1.as_bytes())];
    trial.extend_from_slice(files);
    let cause = start(&Script::append(runtime, &trial).into(), program).await?;
    let (_, json) = cause.split_once(PYTHON_ERROR)?;
    serde_json::from_str(json.lines().next()?).ok()
}

/// Checks a JavaScript file that is embedded as it is.
pub(super) async fn check_javascript(runtime: &Bytes, script: &Path, name: &str, text: &str) -> Option<SourceError> {
    let is_module = is_module(name, text);
    let trial = match is_module {
        true => format!("{text}{NO_SUCH_IMPORT}"),
        false => format!("{RETURN}{text}"),
    };
    let cause = start(&Script::append(runtime, &[(name, trial.as_bytes())]).into(), script).await?;
    let mut error = javascript_error(&cause, name)?;
    if error.line == 1 && !is_module {
        error.column = error.column.saturating_sub(RETURN.len()).max(1);
    }
    // What is missing at the end is reported after it.
    let lines = text.lines().count().max(1);
    if error.line > lines {
        error.line = lines;
        error.column = text.lines().next_back().unwrap_or_default().chars().count() + 1;
    }
    Some(error)
}

/// Starts an instance of the trial. Returns why it does not start.
async fn start(trial: &Bytes, script: &Path) -> Option<String> {
    let app = App::default();
    let started = async {
        let engine = Engine::new(EngineSettings {
            max_instances: 1,
            max_memory: app.handler.limits.memory,
            ..engine_settings(&Config::default())
        })?;
        let key_value = Transport::from(Memory::new(TransportSettings::default())).key_value;
        check::start(&engine, trial.clone(), app.settings(&"build".into(), key_value)).await
    };
    let what = || "compiling the runtime of scripts, once".to_owned();
    match during(what, say, started).await {
        Ok(_) => None,
        Err(LoadError::Start { cause }) => Some(cause),
        Err(error) => {
            say(&format!("did not check the syntax of {}: {error}", script.display()));
            None
        }
    }
}

/// The error in the words of the JavaScript runtime: its message, a code frame, and `at FILE:LINE:COLUMN`.
fn javascript_error(cause: &str, name: &str) -> Option<SourceError> {
    let (_, text) = cause.split_once(JAVASCRIPT_ERROR)?;
    let message = text.lines().next()?;
    let place = format!("{name}:");
    let place = text.lines().find_map(|line| {
        let line = line.trim_start().strip_prefix("at ")?;
        Some(line.split_once(&place)?.1.trim_end_matches(')'))
    })?;
    let (line, column) = place.split_once(':')?;
    Some(SourceError {
        file: name.to_owned(),
        line: line.parse().ok()?,
        column: column.parse().ok()?,
        message: format!("{JAVASCRIPT_ERROR}{message}"),
    })
}

/// Whether the runtime evaluates a script as a module: `is_module` of `guest-sdk/js/runtime/src/engine.rs`.
fn is_module(name: &str, text: &str) -> bool {
    const WORDS: [&str; 7] = [
        "import ", "import{", "import\"", "import'", "export ", "export{", "export*",
    ];
    let has_syntax = || {
        text.lines()
            .any(|line| WORDS.iter().any(|word| line.trim_start().starts_with(word)))
    };
    name.ends_with(".mjs") || !name.ends_with(".cjs") && has_syntax()
}

impl SourceError {
    /// The error as compilers print it, with the lines around it. `folder` is that of the program.
    pub(super) fn describe(&self, folder: &Path) -> String {
        let Self {
            file,
            line,
            column,
            message,
        } = self;
        let file = folder.join(file);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut described = format!("{}:{line}:{column}: {message}", file.display());
        let first = line.saturating_sub(CONTEXT).max(1);
        let width = (line + CONTEXT).to_string().len();
        let lines = text
            .lines()
            .enumerate()
            .skip(first - 1)
            .take(line + CONTEXT + 1 - first);
        for (index, code) in lines {
            let number = index + 1;
            let code = code[..code.floor_char_boundary(MAX_LINE)].replace('\t', " ");
            let mark = if number == *line { ">" } else { " " };
            described += &format!("\n  {mark} {number:width$} | {code}");
            if number == *line && *column <= MAX_LINE {
                described += &format!("\n    {:width$} | {:>column$}", "", "^");
            }
        }
        described
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_place_and_lines_around_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.js"), "1\n2\nlet x = = 3;\n4\n5\n6\n").unwrap();
        let cause =
            "its start function refused: SyntaxError: unexpected token: '='\n  > 3 | let x = = 3;\n    at a.js:3:9";
        let error = javascript_error(cause, "a.js").unwrap();
        let described = error.describe(folder.path());
        let (place, frame) = described.split_once('\n').unwrap();
        assert!(
            place.ends_with("a.js:3:9: SyntaxError: unexpected token: '='"),
            "{place}"
        );
        let expected = "    1 | 1\n    2 | 2\n  > 3 | let x = = 3;\n      |         ^\n    4 | 4\n    5 | 5";
        assert_eq!(frame, expected);
    }

    #[test]
    fn recognises_modules_like_the_runtime() {
        assert!(is_module("a.js", "\n  import { on } from \"plugnode\";"));
        assert!(is_module("a.mjs", ""));
        assert!(!is_module("a.cjs", "export {}"));
        assert!(!is_module("a.js", "const imported = import('x');"));
    }
}
