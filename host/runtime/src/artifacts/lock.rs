//! One at a time, over all processes of a machine, by a locked file. The lock of a process that dies is free.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Held until it is dropped; then its file goes as well.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits, as long as it takes, until nobody else holds it. Blocks the thread.
    pub(super) fn take(path: PathBuf) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            match file.lock() {
                // Two at once do the same work twice, and no harm.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                locked => locked?,
            }
            // Who held it before has removed the file, and the next may have made another.
            let held = file.metadata()?;
            let there = match fs::symlink_metadata(&path) {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the file is closed, and so unlocked: whoever waits sees that it is gone. One that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}
