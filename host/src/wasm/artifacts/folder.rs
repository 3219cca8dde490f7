//! The folder of compiled components: who may write to it, how a file gets into it, and how much it may hold.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, TempDir};
use tokio::task::spawn_blocking;

use super::lock::Lock;
use crate::wasm::load_error::LoadError;
use crate::wasm::owner::foreign;

/// What a folder may hold.
const MOST_FILES: usize = 100;
const MOST_BYTES: u64 = 4 << 30;
/// The folder in the configured one: others may have use for that too.
const NAME: &str = "compiled";
const EXTENSION: &str = "cwasm";
/// The folder in it where compilers keep the functions that they know.
const FUNCTIONS: &str = "functions";
/// How files are called that are being written.
const UNFINISHED: &str = "unfinished-";
/// A file that was being written so long ago was left behind by a process that was killed. No compiler may take so long.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// A folder that only this user may write to. Clones are the same folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    /// Removed with the last clone.
    _own: Option<Arc<TempDir>>,
}

impl Folder {
    /// Opens the one in this folder; None is one of its own.
    pub(super) fn open(cache: Option<&Path>) -> Result<Self, LoadError> {
        let (cache, own) = match cache {
            Some(cache) => (cache.to_owned(), None),
            None => {
                let own = tempfile::Builder::new().prefix("plugnode-").tempdir();
                let own = own.map_err(|error| unusable(&std::env::temp_dir(), &error))?;
                (own.path().to_owned(), Some(Arc::new(own)))
            }
        };
        let path = cache.join(NAME);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| unusable(&path, &error))?;
        let folder = Self { path, _own: own };
        folder.check()?;
        Ok(folder)
    }

    /// The file of this name, if it is there and may be trusted. It counts as used now.
    pub(super) fn find(&self, name: &str) -> Result<Option<PathBuf>, LoadError> {
        self.check()?;
        let path = self.file(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        if !metadata.is_file() || foreign(&metadata).is_some() {
            return Ok(None);
        }
        // A folder that cannot be written to any more can still be read from.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(path))
    }

    /// Waits until nobody else is at the file of this name.
    pub(super) async fn lock(&self, name: &str) -> Result<Lock, LoadError> {
        let path = self.path.join(format!("{name}.lock"));
        let locked = spawn_blocking(move || Lock::take(path)).await;
        let locked = locked.unwrap_or_else(|error| Err(error.into()));
        locked.map_err(|error| self.unusable(&error))
    }

    /// A file to be written, which nobody finds yet, and a handle to write it by. It goes when it is dropped.
    pub(super) fn begin(&self) -> Result<(NamedTempFile, File), LoadError> {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.path);
        let begun = file.and_then(|file| {
            let writer = file.as_file().try_clone()?;
            Ok((file, writer))
        });
        begun.map_err(|error| self.unusable(&error))
    }

    /// Where compilers may keep what spares them work, on the same terms. They make it.
    pub(super) fn functions(&self) -> PathBuf {
        self.path.join(FUNCTIONS)
    }

    /// Puts a finished file under this name, in the place of what is there, and makes room for it.
    pub(super) fn keep(&self, file: NamedTempFile, name: &str) -> Result<(), LoadError> {
        let kept = file.as_file().sync_all().and_then(|()| {
            file.persist(self.file(name))?;
            Ok(())
        });
        kept.map_err(|error| self.unusable(&error))?;
        if let Err(error) = self.tidy(MOST_FILES, MOST_BYTES) {
            let folder = self.path.display();
            tracing::warn!(%error, "cannot remove old files from {folder}; it grows");
        }
        Ok(())
    }

    /// Removes what was not used for longest, until the rest is within these limits. Any process may have any of them in
    /// use: a file that is mapped into memory stays there when its name goes.
    pub(super) fn tidy(&self, files: usize, bytes: u64) -> io::Result<()> {
        let mut finished = Vec::new();
        for entry in self.path.read_dir()? {
            let entry = entry?;
            // One that is gone was removed by another process.
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            let used = metadata.modified()?;
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                finished.push((used, metadata.len(), path));
            } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
                && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND)
            {
                remove(&path)?;
            }
        }
        finished.sort_by(|one, other| other.cmp(one));
        let mut held = 0;
        for (place, (_, length, path)) in finished.into_iter().enumerate() {
            held += length;
            // The first is the one that was just made.
            if place > 0 && (place >= files || held > bytes) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// An error that names this folder.
    pub(super) fn unusable(&self, error: &io::Error) -> LoadError {
        unusable(&self.path, error)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.{EXTENSION}"))
    }

    /// Refuses a folder that another user can put files into. Asked each time: it may have been changed.
    fn check(&self) -> Result<(), LoadError> {
        let metadata = fs::symlink_metadata(&self.path).map_err(|error| self.unusable(&error))?;
        let cause = match metadata.is_dir() {
            true => foreign(&metadata),
            false => Some("it is no folder: remove it, or set cache-dir to another".to_owned()),
        };
        match cause {
            None => Ok(()),
            Some(cause) => Err(LoadError::Cache {
                path: self.path.clone(),
                cause,
            }),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: &io::Error) -> LoadError {
    LoadError::Cache {
        path: path.to_owned(),
        cause: format!("{error}; set cache-dir to a folder that can be written to, or to \"\""),
    }
}
