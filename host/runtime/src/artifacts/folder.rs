//! The folder of compiled components: who may write to it, how a file gets into it, and how much it may hold.

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

use super::lock::Lock;
use crate::kept::{self, Bounds, UNFINISHED};
use crate::load_error::LoadError;
use crate::owner::{foreign, replaceable};
use plugnode_release::Digest;

/// What a folder may hold.
const BOUNDS: Bounds = Bounds {
    files: 100,
    bytes: 4 << 30,
};
/// The folder in the configured one: others may have use for that too.
const NAME: &str = "compiled";
const EXTENSION: &str = "cwasm";
/// What it may hold of the bytes that these were compiled from,
const BYTES_BOUNDS: Bounds = Bounds {
    files: 100,
    bytes: 1 << 30,
};
/// which are in files of their own.
const BYTES_EXTENSION: &str = "wasm";
/// The folder in it where compilers keep the functions that they know.
const FUNCTIONS: &str = "functions";
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
    pub(super) fn find(&self, name: &str) -> Result<Option<File>, LoadError> {
        self.find_file(&file_name(name, EXTENSION))
    }

    /// The same for the bytes of a component.
    pub(super) fn find_bytes(&self, digest: &Digest) -> Result<Option<File>, LoadError> {
        self.find_file(&file_name(digest.as_str(), BYTES_EXTENSION))
    }

    /// Removes the bytes of a component.
    pub(super) fn forget_bytes(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.file(digest.as_str(), BYTES_EXTENSION))
    }

    /// Opens a file by the handle of the folder, and looks at what was opened: what is put in the place of either between a look and
    /// the next is not what is run.
    fn find_file(&self, name: &str) -> Result<Option<File>, LoadError> {
        let folder = self.handle()?;
        let opened = openat(
            &folder,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = match opened.map(File::from).map_err(io::Error::from) {
            Ok(file) => file,
            // A link is not followed, and is no file of ours.
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_link(&error) => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let metadata = file.metadata().map_err(|error| self.unusable(&error))?;
        if !metadata.is_file() || foreign(&metadata).is_some() {
            return Ok(None);
        }
        // A folder that cannot be written to any more can still be read from.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(file))
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
        self.keep_file(file, name, EXTENSION, BOUNDS)
    }

    /// The same for the bytes of a component.
    pub(super) fn keep_bytes(&self, file: NamedTempFile, digest: &Digest) -> Result<(), LoadError> {
        self.keep_file(file, digest.as_str(), BYTES_EXTENSION, BYTES_BOUNDS)
    }

    fn keep_file(&self, file: NamedTempFile, name: &str, extension: &str, bounds: Bounds) -> Result<(), LoadError> {
        let kept = file.as_file().sync_all().and_then(|()| {
            file.persist(self.file(name, extension))?;
            Ok(())
        });
        kept.map_err(|error| self.unusable(&error))?;
        if let Err(error) = self.tidy(extension, bounds) {
            let folder = self.path.display();
            tracing::warn!(%error, "cannot remove old files from {folder}; it grows");
        }
        Ok(())
    }

    /// Removes files of this extension: what was not used for longest, until the rest is within these bounds.
    pub(super) fn tidy(&self, extension: &str, bounds: Bounds) -> io::Result<()> {
        kept::tidy(&self.path, extension, bounds)
    }

    /// An error that names this folder.
    pub(super) fn unusable(&self, error: &io::Error) -> LoadError {
        unusable(&self.path, error)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path.join(file_name(name, extension))
    }

    /// Refuses a folder that another user can put files into.
    fn check(&self) -> Result<(), LoadError> {
        self.handle().map(drop)
    }

    /// The folder, opened, if no other user can put files into it or another folder in its place. Asked each time: it may have been
    /// changed.
    fn handle(&self) -> Result<OwnedFd, LoadError> {
        let refused = |cause| LoadError::Cache {
            path: self.path.clone(),
            cause,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, &self.path, flags, Mode::empty()).map_err(io::Error::from);
        let folder = opened.map_err(
            |error| match is_link(&error) || error.kind() == io::ErrorKind::NotADirectory {
                true => refused("it is no folder: remove it, or set cache-dir to another".to_owned()),
                false => self.unusable(&error),
            },
        )?;
        let folder = File::from(folder);
        let metadata = folder.metadata().map_err(|error| self.unusable(&error))?;
        let above = replaceable(&self.path).map_err(|error| self.unusable(&error))?;
        match foreign(&metadata).or(above) {
            None => Ok(folder.into()),
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
        cause: format!("{error}; set cache-dir to a folder that can be written to, or to \"\""),
    }
}
