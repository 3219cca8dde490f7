//! Functions that were compiled before: most of a new build are those of the one before it.
//!
//! A folder has a few files, each with the functions of one build. Whoever compiles looks them all up, and leaves a file of
//! what its own build consists of; it takes the place of those that it is mostly made of, so that each family of components
//! has one, whatever is deployed how often. What is in a file that was damaged counts as unknown. Compilers may be at work
//! at the same time: a file comes into being whole, is never written to, and stays readable to those who have it open.
//!
//! What a function is known by is Cranelift's affair: a SHA-256 of its code before it is compiled, of the version of
//! Cranelift and of all that it was set up with.

mod build;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use wasmtime::CacheStore;

use self::build::{Build, Draft, Key};
use crate::kept::{self, Bounds, UNFINISHED};
use crate::owner::foreign;

/// What a folder may hold.
const BOUNDS: Bounds = Bounds {
    files: 8,
    bytes: 256 << 20,
};
/// What one build may leave. JavaScript's interpreter leaves 37 MB.
const MOST_OF_ONE: usize = 128 << 20;
const EXTENSION: &str = "functions";

/// What is known when a compiler begins, and what it learns.
#[derive(Debug)]
pub(super) struct Known {
    folder: PathBuf,
    configuration: String,
    /// Those used last come first.
    builds: Vec<Build>,
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    used: HashSet<Key>,
    new: HashMap<Key, Vec<u8>>,
    /// Of all that is new.
    bytes: usize,
}

impl Known {
    /// What is known in this folder of the configuration of this name. Makes the folder when it is not there.
    ///
    /// # Errors
    /// The folder cannot be used, or others than this user could have written to it.
    pub(super) fn open(folder: &Path, configuration: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() {
            return Err(io::Error::other(format!(
                "{} is no folder: remove it",
                folder.display()
            )));
        }
        if let Some(cause) = foreign(&metadata) {
            return Err(io::Error::other(format!("{}: {cause}", folder.display())));
        }
        let ours = format!("{configuration}-");
        let mut builds = Vec::new();
        for (path, _) in kept::list(folder, EXTENSION)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(&ours) {
                continue;
            }
            match Build::open(&path, configuration) {
                Ok(build) => builds.push(build),
                // It is of no use to anybody. That it could not be removed changes nothing here.
                Err(_) => drop(fs::remove_file(&path)),
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            configuration: configuration.to_owned(),
            builds,
            learned: Mutex::default(),
        })
    }

    /// Leaves the functions of the build of this name, which is done, for the compilers to come.
    pub(super) fn keep(&self, name: &str) -> io::Result<()> {
        self.keep_within(name, BOUNDS)
    }

    fn keep_within(&self, name: &str, bounds: Bounds) -> io::Result<()> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |build: &&Build| build.count(|key| learned.used.contains(key)) * 2 > build.len();
        let replaced: Vec<_> = self.builds.iter().filter(old).collect();
        // Unless another compiler has replaced it meanwhile.
        if let (true, [build]) = (learned.new.is_empty(), &*replaced)
            && let Ok(file) = File::open(build.path())
        {
            return file.set_modified(SystemTime::now());
        }
        let path = self.folder.join(format!("{}-{name}.{EXTENSION}", self.configuration));
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        let mut draft = Draft::new(file.as_file());
        let mut room = MOST_OF_ONE;
        let of_used = learned
            .used
            .iter()
            .filter_map(|key| Some((key, Cow::Owned(self.find(key)?))));
        let of_new = learned.new.iter().map(|(key, code)| (key, Cow::Borrowed(&**code)));
        for (key, code) in of_new.chain(of_used) {
            let Some(left) = room.checked_sub(code.len()) else {
                break;
            };
            room = left;
            draft.add(key, &code)?;
        }
        draft.finish(&self.configuration)?;
        file.persist(&path)?;
        for build in replaced {
            if build.path() != path {
                kept::remove(build.path())?;
            }
        }
        kept::tidy(&self.folder, EXTENSION, bounds)
    }

    fn find(&self, key: &Key) -> Option<Vec<u8>> {
        self.builds.iter().find_map(|build| build.get(key))
    }
}

impl CacheStore for Known {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let key = Key::try_from(key).ok()?;
        if let Some(code) = self.find(&key) {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.used.insert(key);
            return Some(Cow::Owned(code));
        }
        // A quarter of the functions of a component are in it more than once.
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.new.get(&key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let Ok(key) = Key::try_from(key) else { return false };
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if learned.bytes + code.len() > MOST_OF_ONE {
            return false;
        }
        learned.bytes += code.len();
        learned.new.insert(key, code);
        true
    }
}
