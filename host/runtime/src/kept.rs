//! Files that a folder keeps within bounds: those used last stay. Several processes may do so at the same time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How files are called that are being written.
pub(super) const UNFINISHED: &str = "unfinished-";
/// A file that was being written so long ago was left behind by a process that was killed. No compiler may take so long.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// What a folder may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// The finished files, which have this extension, with their lengths: those used last come first. What processes that were
/// killed have left goes.
pub(super) fn list(folder: &Path, extension: &str) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut finished: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        // One that is gone was removed by another process.
        let Ok(metadata) = entry.metadata() else { continue };
        let (path, used) = (entry.path(), metadata.modified()?);
        if path.extension().is_some_and(|of_path| of_path == extension) {
            finished.push((used, metadata.len(), path));
        } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
            && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND)
        {
            remove(&path)?;
        }
    }
    finished.sort_by(|one, other| other.cmp(one));
    Ok(finished.into_iter().map(|(_, length, path)| (path, length)).collect())
}

/// Removes what was not used for longest, until the rest is within bounds. Any process may have any of them in use: a file
/// that is open, or mapped into memory, stays there when its name goes.
pub(super) fn tidy(folder: &Path, extension: &str, bounds: Bounds) -> io::Result<()> {
    let mut held = 0;
    for (place, (path, length)) in list(folder, extension)?.into_iter().enumerate() {
        held += length;
        // The first is the one that was just made.
        if place > 0 && (place >= bounds.files || held > bounds.bytes) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, if it is still there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
