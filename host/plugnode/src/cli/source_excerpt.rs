//! Finds the source location that an error message names, and reads the lines around it. Only files in the handler's folder are
//! read, and only a bounded amount of each.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

/// Limit of a source file, in bytes. Larger files are not read.
const MAX_FILE: u64 = 1 << 20;
/// Limit of a line, in bytes. The rest is cut off.
const MAX_LINE: usize = 200;
/// Number of lines before and after the location.
const CONTEXT: usize = 3;

/// Lines of a source file around a location.
pub(super) struct SourceExcerpt {
    /// `FILE:LINE`, with the path relative to the folder.
    pub(super) location: String,
    /// Each line as `{ line, text, here }`; `here` marks the location.
    pub(super) lines: Vec<Value>,
}

/// A location in a source file.
#[derive(Debug, PartialEq, Eq)]
struct SourceLocation {
    file: String,
    line: usize,
}

impl SourceExcerpt {
    /// The excerpt for the first location in `message` that is in a file of `folder`.
    pub(super) fn find(folder: &Path, message: &str) -> Option<Self> {
        locations(message).into_iter().find_map(|location| {
            let (file, lines) = read(folder, &location)?;
            let location = format!("{file}:{}", location.line);
            Some(Self { location, lines })
        })
    }
}

/// The locations in a message, in order. They look like `src/app.ts:4:11`, `app.py:2` or `File "app.py", line 2`.
fn locations(message: &str) -> Vec<SourceLocation> {
    let mut locations = Vec::new();
    for line in message.lines() {
        if let Some((file, number)) = line
            .split_once("File \"")
            .and_then(|(_, rest)| rest.split_once("\", line "))
        {
            locations.extend(parse(file, number));
        }
        for word in line.split(|c: char| c.is_whitespace() || "()'\"`,<>".contains(c)) {
            if let Some((file, number)) = word.split_once(':') {
                locations.extend(parse(file, number));
            }
        }
    }
    locations
}

/// Parses the file and the text that begins with the line number.
fn parse(file: &str, number: &str) -> Option<SourceLocation> {
    let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let line = number[..digits].parse().ok().filter(|line| *line > 0)?;
    let file = file.trim_start_matches("./").trim_start_matches('/');
    Path::new(file).extension()?;
    Some(SourceLocation {
        file: file.to_owned(),
        line,
    })
}

/// The path relative to `folder` and the lines around a location. None if the file is not in the folder, not even after links are
/// resolved. Tools print paths relative to other folders, so leading parts of the path that do not exist here are dropped.
fn read(folder: &Path, location: &SourceLocation) -> Option<(String, Vec<Value>)> {
    let folder = folder.canonicalize().ok()?;
    let parts = Path::new(&location.file).components();
    let parts: Vec<_> = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
    let (relative, file) = (0..parts.len()).find_map(|from| {
        let relative: PathBuf = parts[from..].iter().collect();
        let file = folder.join(&relative).canonicalize().ok()?;
        Some((relative, file))
    })?;
    let is_small = file
        .metadata()
        .is_ok_and(|file| file.is_file() && file.len() <= MAX_FILE);
    if !is_small || !file.starts_with(&folder) {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let first = location.line.saturating_sub(CONTEXT).max(1);
    let lines = text
        .lines()
        .enumerate()
        .skip(first - 1)
        .take(location.line + CONTEXT + 1 - first);
    let lines: Vec<_> = lines
        .map(|(index, text)| {
            let text = text[..text.floor_char_boundary(MAX_LINE)].replace('\t', "    ");
            json!({ "line": index + 1, "text": text, "here": index + 1 == location.line })
        })
        .collect();
    (text.lines().count() >= location.line).then(|| (relative.display().to_string(), lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_locations_in_messages_of_tools() {
        let found = |message: &str| -> Vec<(String, usize)> {
            locations(message)
                .into_iter()
                .map(|location| (location.file, location.line))
                .collect()
        };
        for (message, file, line) in [
            ("Error: no\n    at answer (answers.ts:4:9)", "answers.ts", 4),
            ("    server.js:7:2: ERROR: Unexpected \"}\"", "server.js", 7),
            (" --> src/lib.rs:12:5", "src/lib.rs", 12),
            ("  File \"/shop/cart.py\", line 2, in add", "shop/cart.py", 2),
            ("at shop/cart.py:3", "shop/cart.py", 3),
        ] {
            assert_eq!(found(message)[0], (file.to_owned(), line), "{message}");
        }
        assert!(found("at 12:30:05 http://x:80 release 3: no").is_empty());
    }

    #[test]
    fn reads_only_files_in_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("app");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outside.path().join("secret.js"), "1\n2\n").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.js"), folder.join("link.js")).unwrap();
        std::fs::write(folder.join("app.js"), "1\n2\n3\n4\n5\n6\n").unwrap();
        let read_at = |file: &str, line| {
            let file = file.to_owned();
            read(&folder, &SourceLocation { file, line })
        };
        let (file, lines) = read_at("../x/app/app.js", 5).unwrap();
        assert_eq!(file, "app.js");
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[3], json!({ "line": 5, "text": "5", "here": true }));
        for (file, line) in [("../secret.js", 1), ("link.js", 1), ("none.js", 1), ("app.js", 9)] {
            assert_eq!(read_at(file, line), None, "{file}:{line}");
        }
    }
}
