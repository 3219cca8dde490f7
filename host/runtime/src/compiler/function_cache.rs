//! A cache of compiled functions: a new build of a component has most functions of the previous one.
//!
//! The directory has a few files, each with the functions of one build. A compiler looks functions up in all of them, and
//! stores a file with the functions of its own build. The new file replaces each file of which it has used more than
//! half, so that each family of components has one file, however often it is deployed. Damaged entries count as missing. Compilers may
//! run concurrently: files are created complete, never changed, and stay readable while they are open.
//!
//! The key of a function comes from Cranelift: a SHA-256 of its code before compilation, Cranelift's version and all settings.

mod function_file;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use wasmtime::CacheStore;

use self::function_file::{FunctionFile, FunctionFileWriter, FunctionKey};
use crate::file_security::writable_by_others;
use crate::lru_dir::{self, DirBounds, TEMP_PREFIX};

/// Bounds of the directory.
const BOUNDS: DirBounds = DirBounds {
    files: 8,
    bytes: 256 << 20,
};
/// Most bytes of one build. JavaScript's interpreter has 37 MB.
const MAX_BUILD: usize = 128 << 20;
const EXTENSION: &str = "functions";

/// The cached functions when a compiler starts, and those of its own build.
#[derive(Debug)]
pub(super) struct FunctionCache {
    dir: PathBuf,
    configuration: String,
    /// Most recently used first.
    files: Vec<FunctionFile>,
    build: Mutex<BuildFunctions>,
}

/// The functions of the current build.
#[derive(Debug, Default)]
struct BuildFunctions {
    /// Found in the cache.
    cached: HashSet<FunctionKey>,
    /// Compiled anew.
    new: HashMap<FunctionKey, Vec<u8>>,
    /// Total size of the new ones.
    new_bytes: usize,
}

impl FunctionCache {
    /// Opens the files for this configuration, and creates the directory if it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be used, or other users can write to it.
    pub(super) fn open(dir: &Path, configuration: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::Error::other(format!(
                "{} is not a directory: remove it",
                dir.display()
            )));
        }
        if let Some(cause) = writable_by_others(&metadata) {
            return Err(io::Error::other(format!("{}: {cause}", dir.display())));
        }
        let prefix = format!("{configuration}-");
        let mut files = Vec::new();
        for (path, _) in lru_dir::list(dir, EXTENSION)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(&prefix) {
                continue;
            }
            match FunctionFile::open(&path, configuration) {
                Ok(file) => files.push(file),
                // Damaged, so useless to everybody. A failure to remove it does not matter.
                Err(_) => drop(fs::remove_file(&path)),
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            configuration: configuration.to_owned(),
            files,
            build: Mutex::default(),
        })
    }

    /// Stores the functions of the finished build under this name.
    pub(super) fn store(&self, name: &str) -> io::Result<()> {
        self.store_within(name, BOUNDS)
    }

    fn store_within(&self, name: &str, bounds: DirBounds) -> io::Result<()> {
        let build = self.build.lock();
        let is_mostly_used = |file: &&FunctionFile| file.count(|key| build.cached.contains(key)) * 2 > file.len();
        let replaced: Vec<_> = self.files.iter().filter(is_mostly_used).collect();
        // Nothing is new: marks the file as used, unless another compiler has replaced it meanwhile.
        if let (true, [only]) = (build.new.is_empty(), &*replaced)
            && let Ok(file) = File::open(only.path())
        {
            return file.set_modified(SystemTime::now());
        }
        let path = self.dir.join(format!("{}-{name}.{EXTENSION}", self.configuration));
        let file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(&self.dir)?;
        let mut writer = FunctionFileWriter::new(file.as_file());
        let mut left = MAX_BUILD;
        let cached = build
            .cached
            .iter()
            .filter_map(|key| Some((key, Cow::Owned(self.find(key)?))));
        let new = build.new.iter().map(|(key, code)| (key, Cow::Borrowed(&**code)));
        for (key, code) in new.chain(cached) {
            let Some(rest) = left.checked_sub(code.len()) else {
                break;
            };
            left = rest;
            writer.add(key, &code)?;
        }
        writer.finish(&self.configuration)?;
        file.persist(&path)?;
        for file in replaced {
            if file.path() != path {
                lru_dir::remove(file.path())?;
            }
        }
        lru_dir::evict(&self.dir, EXTENSION, bounds)
    }

    fn find(&self, key: &FunctionKey) -> Option<Vec<u8>> {
        self.files.iter().find_map(|file| file.get(key))
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let key = FunctionKey::try_from(key).ok()?;
        if let Some(code) = self.find(&key) {
            self.build.lock().cached.insert(key);
            return Some(Cow::Owned(code));
        }
        // A quarter of a component's functions occur in it more than once.
        self.build.lock().new.get(&key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let Ok(key) = FunctionKey::try_from(key) else {
            return false;
        };
        let mut build = self.build.lock();
        if build.new_bytes + code.len() > MAX_BUILD {
            return false;
        }
        build.new_bytes += code.len();
        build.new.insert(key, code);
        true
    }
}
