//! Watches what a component is made of, and tells when it has changed and stayed so for a moment.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// An editor saves in several steps, and a person saves several files.
const QUIET: Duration = Duration::from_millis(200);
/// However busy the folder is, this long after the first change it is time.
const AT_LAST: Duration = Duration::from_secs(2);
/// Folders that hold what is made, or what needs no building.
const LEFT_ALONE: [&str; 3] = ["target", "node_modules", "public"];
/// The same of toolchains that are not known, unless it is named.
const MADE: [&str; 3] = ["build", "dist", "out"];

/// What is watched.
pub(super) struct Sources {
    folders: Vec<PathBuf>,
    watched: HashSet<PathBuf>,
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

impl Sources {
    /// One file. Its folder is watched, so that it may be written anew, or not be there for a while.
    pub(super) fn of_file(file: &Path) -> Result<Self> {
        let name = file.file_name().context("a file has a name")?.to_owned();
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut sources = Self::new(move |path| path.file_name() == Some(&name))?;
        sources.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(sources)
    }

    /// Crates: all in their folders but what is made from them.
    pub(super) fn of_crates(folders: &[PathBuf]) -> Result<Self> {
        let folders: Vec<_> = folders
            .iter()
            .map(|folder| folder.canonicalize())
            .collect::<Result<_, _>>()?;
        let roots = folders.clone();
        let mut sources = Self::new(move |path| roots.iter().any(|root| is_source(path, root)))?;
        sources.folders = folders;
        sources.watch_folders()?;
        Ok(sources)
    }

    /// What these names and patterns stand for in a folder; all in it without any. Not what is made there: `output`.
    pub(super) fn of_patterns(folder: &Path, patterns: &[String], output: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let output = match (output.parent().map(Path::canonicalize), output.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => output.to_owned(),
        };
        if patterns.is_empty() {
            let root = folder.clone();
            let mut sources = Self::new(move |path| {
                let within = path.strip_prefix(&root).ok().and_then(|within| within.iter().next());
                let is_made = within.is_some_and(|top| MADE.iter().any(|name| top == *name));
                path != output && !is_made && is_source(path, &root)
            })?;
            sources.folders = vec![folder];
            sources.watch_folders()?;
            return Ok(sources);
        }
        let mut wanted = Vec::with_capacity(patterns.len());
        let mut roots = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let (wants, root) = Wanted::of(&folder, pattern)?;
            wanted.push(wants);
            roots.push(root);
        }
        let mut sources =
            Self::new(move |path| path != output && wanted.iter().any(|wants| wants.has(path)) && !is_passing(path))?;
        for (root, mode) in roots {
            sources.watch(&root, mode)?;
        }
        Ok(sources)
    }

    /// Completes when something has changed since the last time. Cancel safe, but for the pause in which changes are
    /// gathered.
    pub(super) async fn changed(&mut self) -> Result<()> {
        self.changes.recv().await.context("nothing is watched any more")?;
        let quiet = async {
            while timeout(QUIET, self.changes.recv())
                .await
                .is_ok_and(|change| change.is_some())
            {}
        };
        let _ = timeout(AT_LAST, quiet).await;
        // A folder may have come with the change.
        self.watch_folders()
    }

    fn new(is_of_interest: impl Fn(&Path) -> bool + Send + 'static) -> Result<Self> {
        let (change, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error is a reason to look, too.
            let of_interest = event.map_or(true, |event| {
                !event.kind.is_access() && (event.need_rescan() || event.paths.iter().any(|path| is_of_interest(path)))
            });
            if of_interest {
                // One that waits to be seen is as good as two.
                let _ = change.try_send(());
            }
        });
        let watcher = watcher.context("cannot watch files")?;
        Ok(Self {
            folders: Vec::new(),
            watched: HashSet::new(),
            watcher,
            changes,
        })
    }

    /// Not recursive at the top: `target` would be thousands of folders.
    fn watch_folders(&mut self) -> Result<()> {
        for folder in self.folders.clone() {
            self.watch(&folder, RecursiveMode::NonRecursive)?;
            let entries = folder
                .read_dir()
                .with_context(|| format!("cannot read the folder {}", folder.display()))?;
            for entry in entries.flatten() {
                if entry.path().is_dir() && is_source(&entry.path(), &folder) {
                    self.watch(&entry.path(), RecursiveMode::Recursive)?;
                }
            }
        }
        Ok(())
    }

    fn watch(&mut self, path: &Path, mode: RecursiveMode) -> Result<()> {
        if self.watched.insert(path.to_owned()) {
            self.watcher
                .watch(path, mode)
                .with_context(|| format!("cannot watch {}", path.display()))?;
        }
        Ok(())
    }
}

/// What a name or a pattern stands for.
enum Wanted {
    /// A file, or all in a folder.
    Within(PathBuf),
    /// What matches.
    Matching(glob::Pattern),
}

impl Wanted {
    /// Reads one, and says what to watch for it.
    fn of(folder: &Path, pattern: &str) -> Result<(Self, (PathBuf, RecursiveMode))> {
        const MAGIC: &[char] = &['*', '?', '['];
        let whole = folder.join(pattern);
        if !pattern.contains(MAGIC) {
            let found = whole
                .canonicalize()
                .with_context(|| format!("`{pattern}`: there is no {}; name what is there", whole.display()))?;
            // A file may be written anew under its name: its folder knows.
            let root = match found.is_dir() {
                true => (found.clone(), RecursiveMode::Recursive),
                false => (found.parent().unwrap_or(folder).to_owned(), RecursiveMode::NonRecursive),
            };
            return Ok((Self::Within(found), root));
        }
        let (fixed, rest): (Vec<_>, Vec<_>) = {
            let mut parts = Path::new(pattern).iter();
            let fixed = parts
                .by_ref()
                .take_while(|part| !part.to_string_lossy().contains(MAGIC))
                .collect::<Vec<_>>();
            let rest = Path::new(pattern).iter().skip(fixed.len()).collect();
            (fixed, rest)
        };
        let base = folder.join(fixed.iter().collect::<PathBuf>());
        let base = base
            .canonicalize()
            .with_context(|| format!("`{pattern}`: there is no {}; name what is there", base.display()))?;
        let mode = match rest.len() {
            1 if rest[0] != "**" => RecursiveMode::NonRecursive,
            _ => RecursiveMode::Recursive,
        };
        let whole = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(rest.iter().collect::<PathBuf>());
        let pattern = glob::Pattern::new(&whole.to_string_lossy())
            .with_context(|| format!("`{pattern}` is no pattern such as \"src/**/*.c\""))?;
        Ok((Self::Matching(pattern), (base, mode)))
    }

    fn has(&self, path: &Path) -> bool {
        const AS_IN_A_SHELL: glob::MatchOptions = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        match self {
            Self::Within(place) => path.starts_with(place),
            Self::Matching(pattern) => pattern.matches_path_with(path, AS_IN_A_SHELL),
        }
    }
}

/// What editors leave beside a file while they save it.
fn is_passing(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") || name.ends_with(b"~") || name.starts_with(b"#")
    })
}

fn is_source(path: &Path, root: &Path) -> bool {
    let Ok(within) = path.strip_prefix(root) else {
        return false;
    };
    let top = within.components().next().map(|top| top.as_os_str());
    let left_alone = top.is_some_and(|top| LEFT_ALONE.iter().any(|name| top == *name));
    let hidden = top.is_some_and(|top| top.as_encoded_bytes().starts_with(b"."));
    top.is_some() && !left_alone && !is_passing(path) && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn sources_are_watched_and_what_is_made_of_them_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["src", "target/deep", "public"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("src/lib.rs"), "1").unwrap();
        let mut sources = Sources::of_crates(&[folder.path().to_owned()]).unwrap();

        for name in [
            "target/deep/made",
            "target/made",
            "public/index.html",
            ".hidden",
            "src/.lib.rs.swp",
            "src/lib.rs~",
        ] {
            std::fs::write(path(name), "2").unwrap();
            std::fs::read(path("src/lib.rs")).unwrap();
        }
        assert!(timeout(NEVER, sources.changed()).await.is_err());

        std::fs::write(path("src/lib.rs"), "2").unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a change of a source should be seen")
            .unwrap();
        std::fs::create_dir(path("wit")).unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a new folder should be seen")
            .unwrap();
        std::fs::write(path("wit/app.wit"), "").unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a change in a new folder should be seen")
            .unwrap();
        assert!(timeout(NEVER, sources.changed()).await.is_err());
    }

    #[tokio::test]
    async fn patterns_are_watched_and_what_is_made_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["src/deep", "wit", "build"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let patterns = ["src/**/*.c", "wit", "Makefile"].map(String::from);
        let missing = Sources::of_patterns(folder.path(), &patterns, Path::new("build/app.wasm"));
        assert!(format!("{:#}", missing.err().unwrap()).contains("there is no"));
        std::fs::write(path("Makefile"), "").unwrap();
        for (patterns, quiet, seen) in [
            (
                &patterns[..],
                &["src/a.h", "b.c", "src/.a.c.swp", "build/app.wasm"][..],
                &["src/a.c", "src/deep/b.c", "wit/new.wit", "Makefile"][..],
            ),
            (
                &[][..],
                &["build/app.wasm", "build/a.o", ".git"][..],
                &["b.c", "src/a.c"][..],
            ),
        ] {
            let mut sources = Sources::of_patterns(folder.path(), patterns, &path("build/app.wasm")).unwrap();
            for name in quiet {
                std::fs::write(path(name), "1").unwrap();
            }
            assert!(timeout(NEVER, sources.changed()).await.is_err(), "{quiet:?}");
            for name in seen {
                std::fs::write(path(name), "2").unwrap();
                let changed = timeout(SOON, sources.changed()).await;
                changed.unwrap_or_else(|_| panic!("{name} should be seen")).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_watched_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.wasm");
        let mut sources = Sources::of_file(&file).unwrap();
        std::fs::write(folder.path().join("other.wasm"), "1").unwrap();
        assert!(timeout(NEVER, sources.changed()).await.is_err());
        std::fs::write(folder.path().join("new"), "1").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a new file should be seen")
            .unwrap();
    }
}
