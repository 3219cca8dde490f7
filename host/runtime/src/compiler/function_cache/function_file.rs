//! A file with the compiled functions of one build. Each is found by its key, and read on demand.
//!
//! Format: the functions one after the other; an [`Entry`] for each; the number of entries, a checksum of them, and [`MAGIC`].
//! Each entry has a checksum of its function. Numbers are little-endian.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use crate::file_security::writable_by_others;

/// Cranelift's key of a function.
pub(super) type FunctionKey = [u8; 32];

/// Identifies the format and its version.
const MAGIC: [u8; 8] = *b"plugfn 1";
/// Length of an entry: the key, and the function's offset, length and checksum.
const ENTRY: usize = size_of::<FunctionKey>() + 3 * WORD;
const WORD: usize = size_of::<u64>();
/// Length of the trailer: the number of entries, their checksum, and the magic.
const TRAILER: usize = 3 * WORD;

/// A finished file.
#[derive(Debug)]
pub(super) struct FunctionFile {
    path: PathBuf,
    file: File,
    entries: HashMap<FunctionKey, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    length: usize,
    checksum: u64,
}

impl FunctionFile {
    /// Opens a file, and reads its entries.
    ///
    /// # Errors
    /// When it is damaged, is for another configuration, or other users can write to it.
    pub(super) fn open(path: &Path, configuration: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || writable_by_others(&metadata).is_some() {
            return Err(damaged());
        }
        let entries = read(&file, metadata.len(), configuration)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of its functions whose key matches.
    pub(super) fn count(&self, matches: impl Fn(&FunctionKey) -> bool) -> usize {
        self.entries.keys().filter(|key| matches(key)).count()
    }

    /// A function, if it is in the file and undamaged.
    pub(super) fn get(&self, key: &FunctionKey) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let mut code = vec![0; entry.length];
        self.file.read_exact_at(&mut code, entry.offset).ok()?;
        (checksum(key, &code) == entry.checksum).then_some(code)
    }
}

/// Writes a file.
pub(super) struct FunctionFileWriter<'a> {
    file: BufWriter<&'a File>,
    offset: u64,
    entries: Vec<u8>,
}

impl<'a> FunctionFileWriter<'a> {
    /// Writes to this empty file.
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            offset: 0,
            entries: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, key: &FunctionKey, code: &[u8]) -> io::Result<()> {
        self.file.write_all(code)?;
        self.entries.extend(key);
        for word in [self.offset, code.len() as u64, checksum(key, code)] {
            self.entries.extend(word.to_le_bytes());
        }
        self.offset += code.len() as u64;
        Ok(())
    }

    /// Completes the file, for this configuration.
    pub(super) fn finish(mut self, configuration: &str) -> io::Result<()> {
        self.file.write_all(&self.entries)?;
        let count = (self.entries.len() / ENTRY) as u64;
        let checksum = checksum(configuration.as_bytes(), &self.entries);
        self.file.write_all(&count.to_le_bytes())?;
        self.file.write_all(&checksum.to_le_bytes())?;
        self.file.write_all(&MAGIC)?;
        self.file.flush()
    }
}

fn read(file: &File, length: u64, configuration: &str) -> io::Result<HashMap<FunctionKey, Entry>> {
    let mut trailer = [0; TRAILER];
    let trailer_at = length.checked_sub(TRAILER as u64).ok_or_else(damaged)?;
    file.read_exact_at(&mut trailer, trailer_at)?;
    let [count, entries_checksum, magic] = words(&trailer);
    if magic != u64::from_le_bytes(MAGIC) {
        return Err(damaged());
    }
    // A damaged count cannot make this allocate more than the length of the file.
    let bytes = count.checked_mul(ENTRY as u64).filter(|bytes| *bytes <= trailer_at);
    let bytes = bytes.ok_or_else(damaged)?;
    let functions_end = trailer_at - bytes;
    let mut entries = vec![0; usize::try_from(bytes).map_err(|_| damaged())?];
    file.read_exact_at(&mut entries, functions_end)?;
    if checksum(configuration.as_bytes(), &entries) != entries_checksum {
        return Err(damaged());
    }
    let entries = entries.chunks_exact(ENTRY).map(|entry| {
        let (key, location) = entry.split_first_chunk().expect("an entry begins with a key");
        let [offset, length, checksum] = words(location);
        let within = offset.checked_add(length).is_some_and(|end| end <= functions_end);
        let length = usize::try_from(length).ok().filter(|_| within).ok_or_else(damaged)?;
        Ok((
            *key,
            Entry {
                offset,
                length,
                checksum,
            },
        ))
    });
    entries.collect()
}

fn words(bytes: &[u8]) -> [u64; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("a chunk is one word long"));
    }
    words
}

/// Checksum of bytes and their name, so that bytes under another name do not match.
fn checksum(name: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(name);
    hasher.update(bytes);
    hasher.digest()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "damaged, or written by another program")
}
