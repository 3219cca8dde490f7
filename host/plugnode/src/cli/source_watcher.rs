//! Watches source files, and reports a change once no further one follows for a moment.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Changes closer together than this are one: editors save in several steps, and people save several files.
const QUIET: Duration = Duration::from_millis(200);
/// Limit of waiting for a quiet moment after the first change.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Size up to which files are compared with what they were.
const MAX_COMPARED: u64 = 64 << 20;
/// Folders of build results, dependencies and pages, which are not watched.
const EXCLUDED: [&str; 3] = ["target", "node_modules", "public"];
/// Folders of build results that are not watched either for a build command without `watch`.
const BUILD_FOLDERS: [&str; 3] = ["build", "dist", "out"];

/// Watches files and folders.
pub(super) struct SourceWatcher {
    /// Folders whose new subfolders are to be watched.
    folders: Vec<PathBuf>,
    watched: HashSet<PathBuf>,
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    pending: Arc<Mutex<PendingChanges>>,
    /// Hash of the content of each file at its last change.
    known: HashMap<PathBuf, Option<u64>>,
}

/// What was reported since the last look.
#[derive(Default)]
struct PendingChanges {
    paths: HashSet<PathBuf>,
    /// Whether other files may have changed.
    is_incomplete: bool,
}

impl SourceWatcher {
    /// Watches one file, which may be replaced, or be missing for a while.
    pub(super) fn file(file: &Path) -> Result<Self> {
        let name = file
            .file_name()
            .with_context(|| format!("{} is not the name of a file", file.display()))?
            .to_owned();
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut sources = Self::new(move |path| path.file_name() == Some(&name))?;
        sources.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(sources)
    }

    /// Watches folders, except build results, dependencies, pages and hidden files.
    pub(super) fn folders(folders: &[PathBuf]) -> Result<Self> {
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

    /// Watches the files in `folder` that match a name or a pattern; without any, the whole folder. `output`, the build result, is not
    /// watched.
    pub(super) fn patterns(folder: &Path, patterns: &[String], output: &Path) -> Result<Self> {
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
                let is_built = within.is_some_and(|top| BUILD_FOLDERS.iter().any(|name| top == *name));
                path != output && !is_built && is_source(path, &root)
            })?;
            sources.folders = vec![folder];
            sources.watch_folders()?;
            return Ok(sources);
        }
        let mut wanted = Vec::with_capacity(patterns.len());
        let mut roots = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let (pattern, root) = WatchPattern::parse(&folder, pattern)?;
            wanted.push(pattern);
            roots.push(root);
        }
        let mut sources = Self::new(move |path| {
            path != output && wanted.iter().any(|pattern| pattern.matches(path)) && !is_temporary(path)
        })?;
        for (root, mode) in roots {
            sources.watch(&root, mode)?;
        }
        Ok(sources)
    }

    /// Completes when a file has changed since the last call. Cancel safe until the first change; during the wait for a quiet moment, a
    /// cancelled call loses the change.
    pub(super) async fn changed(&mut self) -> Result<()> {
        loop {
            self.changes.recv().await.context("the file watcher has ended")?;
            let quiet = async {
                while timeout(QUIET, self.changes.recv())
                    .await
                    .is_ok_and(|change| change.is_some())
                {}
            };
            let _ = timeout(MAX_WAIT, quiet).await;
            let pending = std::mem::take(&mut *locked(&self.pending));
            let mut has_changed = pending.is_incomplete;
            for path in pending.paths {
                has_changed |= self.notes_change(path);
            }
            if has_changed {
                // There may be a new subfolder.
                return self.watch_folders();
            }
        }
    }

    /// Notes the content of a file, and returns whether it has changed. A build may write its result among its sources, and writes the
    /// same again.
    fn notes_change(&mut self, path: PathBuf) -> bool {
        if path.metadata().is_ok_and(|found| found.len() > MAX_COMPARED) {
            return true;
        }
        let content = std::fs::read(&path).ok().map(|content| {
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            hasher.finish()
        });
        self.known.insert(path, content) != Some(content)
    }

    fn new(is_watched: impl Fn(&Path) -> bool + Send + 'static) -> Result<Self> {
        let (change, changes) = mpsc::channel(1);
        let pending = Arc::<Mutex<PendingChanges>>::default();
        let reported = pending.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let mut reported = locked(&reported);
            match event {
                Ok(event) if event.kind.is_access() => return,
                Ok(event) => {
                    let is_incomplete = event.need_rescan();
                    let watched: Vec<PathBuf> = event.paths.into_iter().filter(|path| is_watched(path)).collect();
                    if watched.is_empty() && !is_incomplete {
                        return;
                    }
                    reported.paths.extend(watched);
                    reported.is_incomplete |= is_incomplete;
                }
                // An error may hide a change.
                Err(_) => reported.is_incomplete = true,
            }
            // The channel is full if a change is pending already.
            let _ = change.try_send(());
        });
        let watcher = watcher.context("cannot watch files")?;
        Ok(Self {
            folders: Vec::new(),
            watched: HashSet::new(),
            watcher,
            changes,
            pending,
            known: HashMap::new(),
        })
    }

    /// Not recursive at the top level: `target` has thousands of folders.
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

fn locked(pending: &Mutex<PendingChanges>) -> MutexGuard<'_, PendingChanges> {
    pending.lock().expect("nothing panics while it holds this lock")
}

/// An entry of `[build] watch`.
enum WatchPattern {
    /// A file, or everything in a folder.
    Within(PathBuf),
    /// Files that match a pattern.
    Matching(glob::Pattern),
}

impl WatchPattern {
    /// Parses an entry, and returns what to watch for it.
    fn parse(folder: &Path, pattern: &str) -> Result<(Self, (PathBuf, RecursiveMode))> {
        const WILDCARDS: &[char] = &['*', '?', '['];
        let whole = folder.join(pattern);
        if !pattern.contains(WILDCARDS) {
            let found = whole.canonicalize().with_context(|| {
                format!(
                    "`{pattern}`: there is no {}; name an existing file or folder",
                    whole.display()
                )
            })?;
            // Of a file, the folder: the file may be replaced by another of its name.
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
                .take_while(|part| !part.to_string_lossy().contains(WILDCARDS))
                .collect::<Vec<_>>();
            let rest = Path::new(pattern).iter().skip(fixed.len()).collect();
            (fixed, rest)
        };
        let base = folder.join(fixed.iter().collect::<PathBuf>());
        let base = base.canonicalize().with_context(|| {
            format!(
                "`{pattern}`: there is no {}; name an existing file or folder",
                base.display()
            )
        })?;
        let mode = match rest.len() {
            1 if rest[0] != "**" => RecursiveMode::NonRecursive,
            _ => RecursiveMode::Recursive,
        };
        let whole = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(rest.iter().collect::<PathBuf>());
        let pattern = glob::Pattern::new(&whole.to_string_lossy())
            .with_context(|| format!("`{pattern}` is not a pattern such as \"src/**/*.c\""))?;
        Ok((Self::Matching(pattern), (base, mode)))
    }

    fn matches(&self, path: &Path) -> bool {
        const SHELL_RULES: glob::MatchOptions = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        match self {
            Self::Within(place) => path.starts_with(place),
            Self::Matching(pattern) => pattern.matches_path_with(path, SHELL_RULES),
        }
    }
}

/// Whether this is a hidden file, or a temporary one that editors write while they save.
fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") || name.ends_with(b"~") || name.starts_with(b"#")
    })
}

/// Whether a path in `root` is a source: not hidden, temporary, or in an excluded folder.
fn is_source(path: &Path, root: &Path) -> bool {
    let Ok(within) = path.strip_prefix(root) else {
        return false;
    };
    let top = within.components().next().map(|top| top.as_os_str());
    let excluded = top.is_some_and(|top| EXCLUDED.iter().any(|name| top == *name));
    let hidden = top.is_some_and(|top| top.as_encoded_bytes().starts_with(b"."));
    top.is_some() && !excluded && !is_temporary(path) && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn watches_sources_and_ignores_build_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["src", "target/deep", "public"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("src/lib.rs"), "1").unwrap();
        let mut sources = SourceWatcher::folders(&[folder.path().to_owned()]).unwrap();

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
            .expect("a changed source is reported")
            .unwrap();
        std::fs::create_dir(path("wit")).unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a new folder is reported")
            .unwrap();
        std::fs::write(path("wit/app.wit"), "").unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a change in a new folder is reported")
            .unwrap();
        assert!(timeout(NEVER, sources.changed()).await.is_err());
        std::fs::write(path("src/lib.rs"), "2").unwrap();
        let same = timeout(NEVER, sources.changed()).await;
        assert!(same.is_err(), "a build writes its result again, with the same content");
        std::fs::remove_file(path("src/lib.rs")).unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a deleted source is reported")
            .unwrap();
    }

    #[tokio::test]
    async fn watches_patterns_and_ignores_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["src/deep", "wit", "build"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let patterns = ["src/**/*.c", "wit", "Makefile"].map(String::from);
        let missing = SourceWatcher::patterns(folder.path(), &patterns, Path::new("build/app.wasm"));
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
            let mut sources = SourceWatcher::patterns(folder.path(), patterns, &path("build/app.wasm")).unwrap();
            for name in quiet {
                std::fs::write(path(name), "1").unwrap();
            }
            assert!(timeout(NEVER, sources.changed()).await.is_err(), "{quiet:?}");
            for name in seen {
                std::fs::write(path(name), "2").unwrap();
                let changed = timeout(SOON, sources.changed()).await;
                changed.unwrap_or_else(|_| panic!("{name} is not reported")).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn watches_one_file_and_ignores_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.wasm");
        let mut sources = SourceWatcher::file(&file).unwrap();
        std::fs::write(folder.path().join("other.wasm"), "1").unwrap();
        assert!(timeout(NEVER, sources.changed()).await.is_err());
        std::fs::write(folder.path().join("new"), "1").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        timeout(SOON, sources.changed())
            .await
            .expect("a new file is reported")
            .unwrap();
    }
}
