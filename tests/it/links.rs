//! Links in the documentation lead to files and headings that exist, and the book has every page.

use std::fs;
use std::path::{Path, PathBuf};

use plugnode_tests::repository;

/// Links to what `make docs` builds beside the book.
const BUILT_BY_MAKE_DOCS: &str = "../typescript/";

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

/// The target of each `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let root = repository();
    let mut dead = Vec::new();
    for page in pages(root) {
        let text = fs::read_to_string(&page).expect("it is text");
        for target in targets(&text) {
            if target.starts_with("http") || target.starts_with(BUILT_BY_MAKE_DOCS) || target.contains(' ') {
                continue;
            }
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
    assert!(dead.is_empty(), "these links lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn summary_has_each_page_once() {
    let docs = repository().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("docs/SUMMARY.md is there");
    let mut listed: Vec<_> = targets(&summary).map(str::to_owned).collect();
    listed.sort();
    let files = fs::read_dir(&docs).expect("docs is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().into_string());
    let names = names.map(|name| name.expect("names are UTF-8"));
    let mut pages: Vec<_> = names
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .collect();
    pages.sort();
    assert_eq!(listed, pages, "docs/SUMMARY.md (left) differs from the pages of docs/");
}
