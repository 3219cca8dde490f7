//! The source of each configuration value: a line of the file or a variable. Errors name it, and `plugnode config show` prints it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, problem, shape};

/// The path of a key: section, key, and for apps the index between them.
pub(super) type KeyPath = Vec<String>;

/// The sources of the values of one configuration. A value without a source is a default.
pub struct ValueSources {
    file: Option<File>,
    variables: Vec<(KeyPath, String)>,
}

struct File {
    path: PathBuf,
    text: String,
    /// Each key and list item: its path, its bytes in `text`, its line.
    lines: Vec<(KeyPath, Range<usize>, usize)>,
}

impl ValueSources {
    /// Reads the file, if one is given, and checks it on its own, so that errors can name the line.
    pub(super) fn of_file(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.map(File::read).transpose()?;
        Ok(Self {
            file,
            variables: Vec::new(),
        })
    }

    /// The file as a TOML table; empty without a file.
    pub(super) fn table(&self) -> Result<toml::Table, ConfigError> {
        let Some(file) = &self.file else {
            return Ok(toml::Table::new());
        };
        toml::from_str(&file.text).map_err(|error| file.problem(&error))
    }

    /// Records that a value came from a variable.
    pub(super) fn add_variable(&mut self, path: KeyPath, variable: &str) {
        self.variables.push((path, variable.into()));
    }

    /// The source of a key as text: `FILE:LINE` or `variable NAME`. None: the value is the default.
    pub fn of(&self, path: &[&str]) -> Option<String> {
        if let Some((_, variable)) = self.variables.iter().rev().find(|(of, _)| of == path) {
            return Some(format!("variable {variable}"));
        }
        let file = self.file.as_ref()?;
        let (_, _, line) = file.lines.iter().find(|(of, _, _)| of == path)?;
        Some(format!("{}:{line}", file.path.display()))
    }

    /// The first key of this section that has a source.
    pub(super) fn first_in(&self, section: &[&str]) -> Option<String> {
        let variables = self.variables.iter().map(|(path, _)| path);
        let lines = self.file.iter().flat_map(|file| &file.lines).map(|(path, _, _)| path);
        variables
            .chain(lines)
            .find(|path| path.len() > section.len() && path.iter().zip(section).all(|(a, b)| a == b))
            .map(|path| path[section.len()].clone())
    }

    /// The path of the file as text.
    pub(super) fn file(&self) -> Option<String> {
        self.file.as_ref().map(|file| file.path.display().to_string())
    }

    /// Resolves a path from the file relative to the file's folder. A path from a variable or the command line stays relative to
    /// the current folder of the process.
    pub(super) fn resolve(&self, value: &mut PathBuf, path: &[&str]) {
        if self.variables.iter().any(|(of, _)| of == path) {
            return;
        }
        if let Some(folder) = self.file.as_ref().and_then(|file| file.path.parent()) {
            *value = folder.join(&*value);
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |message: String| ConfigError(vec![message]);
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("{}: cannot read the config file: {error}", path.display())))?;
        let mut file = Self {
            path: path.into(),
            text,
            lines: Vec::new(),
        };
        let tree = DeTable::parse(&file.text).map_err(|error| file.problem(&error))?;
        let mut spans = Vec::new();
        visit_table(tree.get_ref(), &mut Vec::new(), &mut spans);
        file.lines = spans
            .into_iter()
            .map(|(path, span, at)| (path, span, file.line(at)))
            .collect();
        let table: toml::Table = toml::from_str(&file.text).map_err(|error| file.problem(&error))?;
        if let Some((key, message)) = shape::mismatch(&table) {
            let line = file.lines.iter().find(|(path, _, _)| *path == key);
            let line = line.map_or(1, |(_, _, line)| *line);
            return Err(file.problem_at(line, &key, &problem::in_words(&message)));
        }
        toml::from_str::<Config>(&file.text).map_err(|error| file.problem(&error))?;
        Ok(file)
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// `file:line: section.key: what is wrong`
    fn problem(&self, error: &toml::de::Error) -> ConfigError {
        let message = problem::in_words(error.message());
        let Some(span) = error.span() else {
            return ConfigError(vec![format!("{}: {message}", self.path.display())]);
        };
        let message = match self.text.get(span.clone()) {
            Some(key) if message == "duplicate key" => format!("the key `{key}` occurs twice; delete one"),
            _ => message,
        };
        let line = self.line(span.start);
        // The innermost key is the last that holds the span.
        let key = self
            .lines
            .iter()
            .rfind(|(_, of, _)| of.contains(&span.start))
            .map(|(key, _, _)| key.as_slice());
        self.problem_at(line, key.unwrap_or_default(), &message)
    }

    fn problem_at(&self, line: usize, key: &[String], message: &str) -> ConfigError {
        let key = match key {
            [] => String::new(),
            key => format!("{}: ", key.join(".")),
        };
        ConfigError(vec![format!("{}:{line}: {key}{message}", self.path.display())])
    }
}

fn visit_table(table: &DeTable<'_>, path: &mut KeyPath, found: &mut Vec<(KeyPath, Range<usize>, usize)>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        found.push((path.clone(), key.span(), key.span().start));
        visit_value(value, path, found);
        path.pop();
    }
}

fn visit_value(value: &Spanned<DeValue<'_>>, path: &mut KeyPath, found: &mut Vec<(KeyPath, Range<usize>, usize)>) {
    found.push((path.clone(), value.span(), value.span().start));
    match value.get_ref() {
        DeValue::Table(table) => visit_table(table, path, found),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push(i.to_string());
                visit_value(item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}
