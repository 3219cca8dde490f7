//! Links within the documentation lead to files and headings that exist.

use std::fs;
use std::path::{Path, PathBuf};

use plugnode_tests::repository;

/// All Markdown files that people read.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs"), root.join("examples"), root.join("guest-sdk")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed"))
        {
            let path = entry.path();
            let is_ours = !matches!(
                entry.file_name().to_str(),
                Some("node_modules" | "target" | "reference")
            );
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// Where `[text](target)` leads.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn documentation_links_resolve() {
    let root = repository();
    let mut dead = Vec::new();
    for page in pages(root) {
        let text = fs::read_to_string(&page).expect("it is text");
        for target in targets(&text).filter(|target| !target.starts_with("http") && !target.contains(' ')) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => page.clone(),
                file => page.parent().expect("it is in a folder").join(file),
            };
            let leads = match (to.exists(), heading) {
                (true, "") => true,
                (true, heading) => fs::read_to_string(&to).is_ok_and(|text| {
                    text.lines()
                        .filter(|line| line.starts_with('#'))
                        .any(|line| anchor(line) == heading)
                }),
                _ => false,
            };
            if !leads {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "these lead nowhere:\n{}", dead.join("\n"));
}
