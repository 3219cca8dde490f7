//! A lock that the processes of a machine share, by a locked file. It is released when its process dies.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A held lock. Dropping it releases it and removes its file.
#[derive(Debug)]
pub(super) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Waits without time limit until no other process holds it. Blocks the thread.
    pub(super) fn acquire(path: PathBuf) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            match file.lock() {
                // Without locks, two processes may do the same work; that is harmless.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                locked => locked?,
            }
            // The previous holder has removed the file, and another process may have created a new one: then this lock is on
            // the wrong file.
            let held = file.metadata()?;
            let current = match fs::symlink_metadata(&path) {
                Ok(current) => current,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if (held.dev(), held.ino()) == (current.dev(), current.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed before it is closed and so unlocked, so that a waiting process sees that it is gone. A file that stays is
        // harmless.
        let _ = fs::remove_file(&self.path);
    }
}
