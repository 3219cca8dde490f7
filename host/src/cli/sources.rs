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

fn is_source(path: &Path, root: &Path) -> bool {
    let Ok(within) = path.strip_prefix(root) else {
        return false;
    };
    let top = within.components().next().map(|top| top.as_os_str());
    let left_alone = top.is_some_and(|top| LEFT_ALONE.iter().any(|name| top == *name));
    // What editors leave beside a file while they save it.
    let passing = path.file_name().is_some_and(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") || name.ends_with(b"~") || name.starts_with(b"#")
    });
    let hidden = top.is_some_and(|top| top.as_encoded_bytes().starts_with(b"."));
    top.is_some() && !left_alone && !passing && !hidden
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
