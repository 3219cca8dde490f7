//! The directory of the compile cache: who may write to it, how files get into it, and its bounds.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{CWD, Mode, OFlags, openat};
use tempfile::{NamedTempFile, TempDir};
use tokio::task::spawn_blocking;

use super::file_lock::FileLock;
use crate::file_security::{replaceable_by_others, writable_by_others};
use crate::load_error::LoadError;
use crate::lru_dir::{self, DirBounds, TEMP_PREFIX};
use plugnode_release::Digest;

/// Bounds of the compiled components.
const COMPILED_BOUNDS: DirBounds = DirBounds {
    files: 100,
    bytes: 4 << 30,
};
/// Bounds of the bytes of components.
const BYTES_BOUNDS: DirBounds = DirBounds {
    files: 100,
    bytes: 1 << 30,
};
/// Subdirectory of the configured directory, which may be shared with other programs.
const NAME: &str = "compiled";
const COMPILED_EXTENSION: &str = "cwasm";
const BYTES_EXTENSION: &str = "wasm";
/// Subdirectory for the compiler's cache of functions.
const FUNCTIONS: &str = "functions";

/// A directory that only this user can write to. Clones are the same directory.
#[derive(Debug, Clone)]
pub(super) struct CacheDir {
    path: PathBuf,
    /// A temporary directory, removed with the last clone.
    _temp: Option<Arc<TempDir>>,
}

impl CacheDir {
    /// Opens the subdirectory of this directory; None uses a temporary one.
    pub(super) fn open(cache: Option<&Path>) -> Result<Self, LoadError> {
        let (cache, temp) = match cache {
            Some(cache) => (cache.to_owned(), None),
            None => {
                let temp = tempfile::Builder::new().prefix("plugnode-").tempdir();
                let temp = temp.map_err(|error| unusable(&std::env::temp_dir(), &error))?;
                (temp.path().to_owned(), Some(Arc::new(temp)))
            }
        };
        let path = cache.join(NAME);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| unusable(&path, &error))?;
        let dir = Self { path, _temp: temp };
        dir.check()?;
        Ok(dir)
    }

    /// The compiled component with this name, if it exists and can be trusted. Marks it as used.
    pub(super) fn find(&self, name: &str) -> Result<Option<File>, LoadError> {
        self.find_file(&file_name(name, COMPILED_EXTENSION))
    }

    /// The bytes of a component, if they exist and can be trusted. Marks them as used.
    pub(super) fn find_bytes(&self, digest: &Digest) -> Result<Option<File>, LoadError> {
        self.find_file(&file_name(digest.as_str(), BYTES_EXTENSION))
    }

    /// Removes the bytes of a component.
    pub(super) fn remove_bytes(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.file(digest.as_str(), BYTES_EXTENSION))
    }

    /// Opens a file relative to the handle of the checked directory, and checks the open file. Replacing either in between has
    /// no effect on what is run.
    fn find_file(&self, name: &str) -> Result<Option<File>, LoadError> {
        let dir = self.open_checked()?;
        let opened = openat(
            &dir,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = match opened.map(File::from).map_err(io::Error::from) {
            Ok(file) => file,
            // A symbolic link is not followed.
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_link(&error) => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let metadata = file.metadata().map_err(|error| self.unusable(&error))?;
        if !metadata.is_file() || writable_by_others(&metadata).is_some() {
            return Ok(None);
        }
        // Fails in a read-only directory, which can still be read.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(file))
    }

    /// Waits for the lock of the file with this name, which processes of this machine share.
    pub(super) async fn lock(&self, name: &str) -> Result<FileLock, LoadError> {
        let path = self.path.join(format!("{name}.lock"));
        let locked = spawn_blocking(move || FileLock::acquire(path)).await;
        let locked = locked.unwrap_or_else(|error| Err(error.into()));
        locked.map_err(|error| self.unusable(&error))
    }

    /// A temporary file, removed when it is dropped, and a handle to write to it.
    pub(super) fn create_temp(&self) -> Result<(NamedTempFile, File), LoadError> {
        let file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(&self.path);
        let created = file.and_then(|file| {
            let writer = file.as_file().try_clone()?;
            Ok((file, writer))
        });
        created.map_err(|error| self.unusable(&error))
    }

    /// The directory for the compiler's cache of functions, which creates and checks it.
    pub(super) fn functions(&self) -> PathBuf {
        self.path.join(FUNCTIONS)
    }

    /// Stores a finished file as the compiled component with this name, replacing any other, and evicts old ones.
    pub(super) fn put(&self, file: NamedTempFile, name: &str) -> Result<(), LoadError> {
        self.put_file(file, name, COMPILED_EXTENSION, COMPILED_BOUNDS)
    }

    /// Stores a finished file as the bytes of a component, and evicts old ones.
    pub(super) fn put_bytes(&self, file: NamedTempFile, digest: &Digest) -> Result<(), LoadError> {
        self.put_file(file, digest.as_str(), BYTES_EXTENSION, BYTES_BOUNDS)
    }

    fn put_file(&self, file: NamedTempFile, name: &str, extension: &str, bounds: DirBounds) -> Result<(), LoadError> {
        let stored = file.as_file().sync_all().and_then(|()| {
            file.persist(self.file(name, extension))?;
            Ok(())
        });
        stored.map_err(|error| self.unusable(&error))?;
        if let Err(error) = self.evict(extension, bounds) {
            let dir = self.path.display();
            tracing::warn!(%error, %dir, "cannot remove old files from the compile cache, which grows; remove them by hand");
        }
        Ok(())
    }

    /// Evicts files with this extension until the rest is within bounds.
    pub(super) fn evict(&self, extension: &str, bounds: DirBounds) -> io::Result<()> {
        lru_dir::evict(&self.path, extension, bounds)
    }

    /// An error that names this directory.
    pub(super) fn unusable(&self, error: &io::Error) -> LoadError {
        unusable(&self.path, error)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path.join(file_name(name, extension))
    }

    /// Refuses a directory that another user can write to.
    fn check(&self) -> Result<(), LoadError> {
        self.open_checked().map(drop)
    }

    /// Opens the directory, if no other user can write to it or replace it. Checked each time, since modes can change.
    fn open_checked(&self) -> Result<OwnedFd, LoadError> {
        let refused = |cause| LoadError::Cache {
            path: self.path.clone(),
            cause,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, &self.path, flags, Mode::empty()).map_err(io::Error::from);
        let dir = opened.map_err(
            |error| match is_link(&error) || error.kind() == io::ErrorKind::NotADirectory {
                true => refused("it is not a directory: remove it, or set cache-dir to another one".to_owned()),
                false => self.unusable(&error),
            },
        )?;
        let dir = File::from(dir);
        let metadata = dir.metadata().map_err(|error| self.unusable(&error))?;
        let replaceable = replaceable_by_others(&self.path).map_err(|error| self.unusable(&error))?;
        match writable_by_others(&metadata).or(replaceable) {
            None => Ok(dir.into()),
            Some(cause) => Err(refused(cause)),
        }
    }
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn file_name(name: &str, extension: &str) -> String {
    format!("{name}.{extension}")
}

fn unusable(path: &Path, error: &io::Error) -> LoadError {
    LoadError::Cache {
        path: path.to_owned(),
        cause: format!("{error}; set cache-dir to a writable directory, or to \"\" for none"),
    }
}
