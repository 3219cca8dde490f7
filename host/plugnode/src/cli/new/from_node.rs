//! `plugnode new --from`: writes the plugnode.toml of a program that was written for Node's Socket.IO.
//!
//! Namespaces are found in the text of the program, as `.of("/name")`. The program is not run.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::super::script::find_script;

const SETTINGS: &str = include_str!("../templates/from.toml.in");
const APP: &str = include_str!("../templates/from-app.toml.in");
/// Usual folders of pages in programs for Node.
const PAGES: [&str; 5] = ["public", "static", "client", "www", "dist"];

/// Writes plugnode.toml beside the script, and prints the next commands.
pub(super) fn write_settings(script: &Path) -> Result<ExitCode> {
    if !script.exists() {
        bail!(
            "there is no {}; name the .js or .ts file of the program",
            script.display()
        );
    }
    let Some(script) = find_script(script)? else {
        bail!("{} is not a script; name a .js or .ts file", script.display());
    };
    let text = std::fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
    let folder = match script.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = folder.join("plugnode.toml");
    if file.exists() {
        bail!("{} is there already; remove it first to write it again", file.display());
    }
    let name = script
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("the name of {} is not UTF-8", script.display()))?;
    let settings = settings(name, &text, pages_of(folder));
    std::fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
    if folder.join("index.html").is_file() {
        // The script's folder is not served: it has files that are not public.
        println!(
            "index.html is beside {name}: move it, and the files that it loads, to {}",
            folder.join(PAGES[0]).display()
        );
    }
    if let Some(line) = line_of_pattern(&text) {
        println!(
            "line {line} of {name} defines namespaces by a pattern: add an [[app]] for them to {}, with a namespace such as \"/shop/{{id}}\"",
            file.display()
        );
    }
    println!(
        "wrote {}; go on with:\n  plugnode dev {}",
        file.display(),
        script.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Contents of the plugnode.toml.
fn settings(name: &str, text: &str, pages: Option<&str>) -> String {
    let pages = match pages {
        Some(pages) => format!("static-dir = \"{pages}\""),
        None => format!("# static-dir = \"{}\"", PAGES[0]),
    };
    let component = format!(
        "{}.wasm",
        Path::new(name).file_stem().unwrap_or_default().to_string_lossy()
    );
    let fill = |text: &str, namespace: &str| {
        text.replace("{{script}}", name)
            .replace("{{component}}", &component)
            .replace("{{namespace}}", namespace)
            .replace("{{pages}}", &pages)
    };
    let apps: String = namespaces_in(text)
        .iter()
        .map(|namespace| fill(APP, namespace))
        .collect();
    fill(SETTINGS, "").replace("{{apps}}\n", &apps)
}

/// The first folder of pages that has an index.html.
fn pages_of(folder: &Path) -> Option<&'static str> {
    let has_index = |pages: &&str| folder.join(pages).join("index.html").is_file();
    PAGES.into_iter().find(has_index)
}

/// The namespaces in the text of a program, and `/`.
pub(in crate::cli) fn namespaces_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from(["/".to_owned()]);
    for (place, _) in text.match_indices(".of(") {
        let rest = text[place + 4..].trim_start();
        let Some(quote) = rest.chars().next().filter(|first| matches!(first, '"' | '\'' | '`')) else {
            continue;
        };
        let Some((name, _)) = rest[1..].split_once(quote) else {
            continue;
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        if !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain) {
            found.insert(format!("/{}", name.trim_start_matches('/')));
        }
    }
    found
}

/// The line of the first namespace that is a regular expression or a function.
pub(in crate::cli) fn line_of_pattern(text: &str) -> Option<usize> {
    let mut places = text
        .match_indices(".of(")
        .map(|(place, word)| (place, &text[place + word.len()..]));
    let (place, _) = places.find(|(_, rest)| {
        let rest = rest.trim_start();
        ["/", "(", "async ", "function"]
            .iter()
            .any(|word| rest.starts_with(word))
    })?;
    Some(text[..place].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_namespaces_in_program_text() {
        let text =
            r#"io.of("/admin"); io.of('chat').on("x"); io.of(`/a${b}`); io.of(/^\/re/); Array.of("é"); io.of(")"#;
        let found: Vec<_> = namespaces_in(text).into_iter().collect();
        assert_eq!(found, ["/", "/admin", "/chat"]);
    }

    #[test]
    fn finds_line_of_namespace_pattern() {
        assert_eq!(line_of_pattern("a;\nio.of(/^\\/room-\\d+$/).on()"), Some(2));
        assert_eq!(
            line_of_pattern("io.of((name, auth, next) => next(null, true))"),
            Some(1)
        );
        assert_eq!(line_of_pattern("io.of('/chat'); Array.of(1, 2); io.of(`/a${b}`)"), None);
    }

    #[test]
    fn settings_have_every_namespace_and_the_pages() {
        let bare = settings("app.js", "", None);
        let read: toml::Table = toml::from_str(&bare).unwrap();
        assert!(read["frontend"].get("static-dir").is_none(), "{bare}");
        let settings = settings("app.server.js", r#"io.of("/admin")"#, Some("static"));
        let read: toml::Table = toml::from_str(&settings).unwrap();
        let apps = read["app"].as_array().unwrap();
        let of = |key: &str| apps.iter().map(|app| app[key].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("namespace"), ["/", "/admin"]);
        assert_eq!(of("component"), ["app.server.wasm"; 2]);
        assert_eq!(read["frontend"]["static-dir"].as_str(), Some("static"));
        assert!(!settings.contains("{{"), "{settings}");
    }
}
