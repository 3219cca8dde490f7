//! Keeps the files of a directory within bounds: evicts those used longest ago. Several processes may do so at the same time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Prefix of files that are being written.
pub(crate) const TEMP_PREFIX: &str = "unfinished-";
/// Age at which a file that was being written counts as left behind by a killed process. Longer than any compiler may take.
const TEMP_MAX_AGE: Duration = Duration::from_secs(3600);

/// Bounds of a directory, for the files of one extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DirBounds {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// The finished files with this extension and their lengths, most recently used first. Removes files that killed processes
/// have left behind.
pub(crate) fn list(dir: &Path, extension: &str) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut finished: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in dir.read_dir()? {
        let entry = entry?;
        // Another process may have removed it.
        let Ok(metadata) = entry.metadata() else { continue };
        let (path, used) = (entry.path(), metadata.modified()?);
        if path.extension().is_some_and(|of_path| of_path == extension) {
            finished.push((used, metadata.len(), path));
        } else if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX)
            && used.elapsed().is_ok_and(|age| age > TEMP_MAX_AGE)
        {
            remove(&path)?;
        }
    }
    finished.sort_by(|one, other| other.cmp(one));
    Ok(finished.into_iter().map(|(_, length, path)| (path, length)).collect())
}

/// Removes the files used longest ago until the rest is within bounds; the most recent one always stays. Other processes may
/// have them in use: a file that is open, or mapped into memory, stays readable after its name is removed.
pub(crate) fn evict(dir: &Path, extension: &str, bounds: DirBounds) -> io::Result<()> {
    let mut total = 0;
    for (index, (path, length)) in list(dir, extension)?.into_iter().enumerate() {
        total += length;
        if index > 0 && (index >= bounds.files || total > bounds.bytes) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, if it is still there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
