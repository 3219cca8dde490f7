//! What `plugnode dev` tells over its pages: why the last build or release did not come into use, or which event failed since. Each
//! with the place in the handler's own source that it names, and the code there.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::words::plain;
use plugnode_message::EventKind;
use plugnode_release::Digest;
use plugnode_server::roles::frontend::Overlay;
use plugnode_transport::{DeadContent, DeadLetter, Transport};

/// How often is looked whether an event has failed.
const LOOK: Duration = Duration::from_millis(250);
/// The most bytes of words that are told.
const MOST_TEXT: usize = 16 << 10;
/// The most bytes of a source file that is looked into, and of one of its lines.
const MOST_SOURCE: u64 = 1 << 20;
const MOST_LINE: usize = 200;
/// The most releases that are remembered.
const MOST_BEFORE: usize = 100;
/// Lines of code before and after the one that is named.
const AROUND: usize = 3;

/// What is told at present. Shared by those who have something to tell.
pub(super) struct Notices {
    folder: PathBuf,
    /// How many there were: one that says the same again is another.
    told: AtomicU64,
    shown: watch::Sender<Shown>,
}

#[derive(Default)]
struct Shown {
    notice: Bytes,
    /// The release of which an event failed; none when it is about a build, which an event that fails does not hide.
    release: Option<String>,
    is_build: bool,
    /// The release in use, and those before it: events that failed in them are of no interest any more.
    current: String,
    before: VecDeque<String>,
}

/// A place in a source file.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    file: String,
    line: usize,
}

impl Notices {
    /// Nothing to tell of a handler whose source is in a folder, and whose first release this is.
    pub(super) fn new(folder: &Path, first: &Digest) -> Self {
        Self {
            folder: folder.into(),
            told: AtomicU64::new(0),
            shown: watch::Sender::new(Shown {
                notice: Bytes::from_static(b"null"),
                current: first.short().to_owned(),
                ..Shown::default()
            }),
        }
    }

    /// What pages show of it, kept up to date for as long as this is polled.
    pub(super) fn overlay(&self) -> (Overlay, impl Future<Output = ()> + Send + use<>) {
        let mut shown = self.shown.subscribe();
        let (tell, told) = watch::channel(shown.borrow().notice.clone());
        let keep = async move {
            while shown.changed().await.is_ok() {
                let notice = shown.borrow_and_update().notice.clone();
                tell.send_replace(notice);
            }
        };
        (Overlay(told), keep)
    }

    /// A build, or the start of what was built, has failed.
    pub(super) fn build_failed(&self, words: &str) {
        let notice = self.notice("The handler does not build", words);
        self.shown.send_modify(|shown| {
            shown.notice = notice;
            shown.is_build = true;
            shown.release = None;
        });
    }

    /// A release has come into use. An event that has failed in it already is told as before.
    pub(super) fn runs(&self, digest: &Digest) {
        let release = digest.short();
        self.shown.send_modify(|shown| {
            if shown.current != release {
                let before = std::mem::replace(&mut shown.current, release.to_owned());
                shown.before.push_back(before);
                if shown.before.len() > MOST_BEFORE {
                    shown.before.pop_front();
                }
            }
            shown.before.retain(|before| before != release);
            if shown.release.as_deref() != Some(release) {
                shown.clear();
            }
        });
    }

    /// What there is now is what runs: nothing is wrong with it. An event that has failed in it has failed.
    pub(super) fn builds(&self) {
        self.shown.send_if_modified(|shown| {
            let was_wrong = shown.is_build;
            if was_wrong {
                shown.clear();
            }
            was_wrong
        });
    }

    /// Tells of events that fail. Never ends.
    pub(super) async fn watch(&self, transport: &Transport) {
        let mut last = None;
        loop {
            sleep(LOOK).await;
            let Some(letter) = transport
                .dead_letters
                .dead_letters(1)
                .await
                .ok()
                .and_then(|mut letters| letters.pop())
            else {
                continue;
            };
            let release = letter.death.release.clone().unwrap_or_default();
            let is_known = last == Some(letter.id);
            last = Some(letter.id);
            if is_known || self.shown.borrow().before.contains(&release) {
                continue;
            }
            let notice = self.notice(&format!("The handler failed: {}", what(&letter)), &letter.death.reason);
            self.shown.send_modify(|shown| {
                if !shown.is_build {
                    shown.notice = notice;
                    shown.release = Some(release);
                }
            });
        }
    }

    fn notice(&self, title: &str, words: &str) -> Bytes {
        let words = &words[..words.floor_char_boundary(MOST_TEXT)];
        let text: Vec<_> = words.lines().map(plain).collect();
        let found = places(words).into_iter().find_map(|place| {
            let (file, frame) = frame(&self.folder, &place)?;
            Some((format!("{file}:{}", place.line), frame))
        });
        let (place, frame) = match found {
            Some((place, frame)) => (Some(place), frame),
            None => (None, Vec::new()),
        };
        let number = self.told.fetch_add(1, Ordering::Relaxed);
        let notice = json!({
            "number": number, "title": plain(title), "place": place, "frame": frame, "text": text.join("\n"),
        });
        notice.to_string().into()
    }
}

impl Shown {
    fn clear(&mut self) {
        self.notice = Bytes::from_static(b"null");
        self.is_build = false;
        self.release = None;
    }
}

fn what(letter: &DeadLetter) -> String {
    match &letter.content {
        DeadContent::Event(event) => match &event.kind {
            EventKind::Message { event, .. } => format!("message {event:?}"),
            kind => kind.word().to_owned(),
        },
        DeadContent::Foreign(_) => "an event".to_owned(),
    }
}

/// The places that words name, as `src/app.ts:4:11`, `app.py:2` or `File "app.py", line 2`, in their order.
fn places(words: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for line in words.lines() {
        if let Some((file, number)) = line
            .split_once("File \"")
            .and_then(|(_, rest)| rest.split_once("\", line "))
        {
            places.extend(place(file, number));
        }
        for word in line.split(|c: char| c.is_whitespace() || "()'\"`,<>".contains(c)) {
            if let Some((file, number)) = word.split_once(':') {
                places.extend(place(file, number));
            }
        }
    }
    places
}

fn place(file: &str, number: &str) -> Option<Place> {
    let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let line = number[..digits].parse().ok().filter(|line| *line > 0)?;
    let file = file.trim_start_matches("./").trim_start_matches('/');
    Path::new(file).extension()?;
    Some(Place {
        file: file.to_owned(),
        line,
    })
}

/// The lines around a place, if it is one of a file in the folder. Tools name it from where they run: what of its path leads
/// nowhere here is left away.
fn frame(folder: &Path, place: &Place) -> Option<(String, Vec<Value>)> {
    let folder = folder.canonicalize().ok()?;
    let parts = Path::new(&place.file).components();
    let parts: Vec<_> = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
    let (within, file) = (0..parts.len()).find_map(|from| {
        let within: PathBuf = parts[from..].iter().collect();
        let file = folder.join(&within).canonicalize().ok()?;
        Some((within, file))
    })?;
    let is_small = file
        .metadata()
        .is_ok_and(|file| file.is_file() && file.len() <= MOST_SOURCE);
    if !is_small || !file.starts_with(&folder) {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let first = place.line.saturating_sub(AROUND).max(1);
    let lines = text
        .lines()
        .enumerate()
        .skip(first - 1)
        .take(place.line + AROUND + 1 - first);
    let frame: Vec<_> = lines
        .map(|(before, text)| {
            let cut = &text[..text.floor_char_boundary(MOST_LINE)];
            json!({ "line": before + 1, "text": cut.replace('\t', "    "), "here": before + 1 == place.line })
        })
        .collect();
    (text.lines().count() >= place.line).then(|| (within.display().to_string(), frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_what_tools_say() {
        let found = |words: &str| -> Vec<(String, usize)> {
            places(words)
                .into_iter()
                .map(|place| (place.file, place.line))
                .collect()
        };
        for (words, file, line) in [
            ("Error: no\n    at answer (answers.ts:4:9)", "answers.ts", 4),
            ("    server.js:7:2: ERROR: Unexpected \"}\"", "server.js", 7),
            (" --> src/lib.rs:12:5", "src/lib.rs", 12),
            ("  File \"/shop/cart.py\", line 2, in add", "shop/cart.py", 2),
            ("at shop/cart.py:3", "shop/cart.py", 3),
        ] {
            assert_eq!(found(words)[0], (file.to_owned(), line), "{words}");
        }
        assert!(found("at 12:30:05 http://x:80 release 3: no").is_empty());
    }

    #[test]
    fn code_is_shown_of_files_in_the_folder_alone() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("app");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outside.path().join("secret.js"), "1\n2\n").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.js"), folder.join("link.js")).unwrap();
        std::fs::write(folder.join("app.js"), "1\n2\n3\n4\n5\n6\n").unwrap();
        let framed = |file: &str, line| {
            let file = file.to_owned();
            frame(&folder, &Place { file, line })
        };
        let (file, lines) = framed("../x/app/app.js", 5).unwrap();
        assert_eq!(file, "app.js");
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[3], json!({ "line": 5, "text": "5", "here": true }));
        for (file, line) in [("../secret.js", 1), ("link.js", 1), ("none.js", 1), ("app.js", 9)] {
            assert_eq!(framed(file, line), None, "{file}:{line}");
        }
    }
}
