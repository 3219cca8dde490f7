//! The functions of one build in one file, each found by its key and read when it is wanted.
//!
//! First come the functions, one after the other, then for each of them an [`Entry`], and last the number of entries, a
//! checksum of them, and [`MAGIC`]. Each function has a checksum of its own. Numbers are little-endian.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use crate::owner::foreign;

/// What Cranelift knows a function by.
pub(super) type Key = [u8; 32];

/// The form of the file.
const MAGIC: [u8; 8] = *b"plugfn 1";
/// A key, where the function is, its length, and its checksum.
const ENTRY: usize = size_of::<Key>() + 3 * WORD;
const WORD: usize = size_of::<u64>();
/// The number of entries, their checksum, and the magic.
const END: usize = 3 * WORD;

/// A finished file.
#[derive(Debug)]
pub(super) struct Build {
    path: PathBuf,
    file: File,
    entries: HashMap<Key, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    length: usize,
    checksum: u64,
}

impl Build {
    /// Reads what is in this file, if it was made for the configuration of this name.
    pub(super) fn open(path: &Path, configuration: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || foreign(&metadata).is_some() {
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

    /// How many of its functions have such a key.
    pub(super) fn count(&self, of: impl Fn(&Key) -> bool) -> usize {
        self.entries.keys().filter(|key| of(key)).count()
    }

    /// A function, if it is there and whole.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let mut code = vec![0; entry.length];
        self.file.read_exact_at(&mut code, entry.at).ok()?;
        (checksum(key, &code) == entry.checksum).then_some(code)
    }
}

/// A file that is being written.
pub(super) struct Draft<'a> {
    file: BufWriter<&'a File>,
    at: u64,
    entries: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// Begins to write to this file, which is empty.
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            at: 0,
            entries: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, key: &Key, code: &[u8]) -> io::Result<()> {
        self.file.write_all(code)?;
        self.entries.extend(key);
        for word in [self.at, code.len() as u64, checksum(key, code)] {
            self.entries.extend(word.to_le_bytes());
        }
        self.at += code.len() as u64;
        Ok(())
    }

    /// Ends the file, which is for the configuration of this name.
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

fn read(file: &File, length: u64, configuration: &str) -> io::Result<HashMap<Key, Entry>> {
    let mut end = [0; END];
    let end_at = length.checked_sub(END as u64).ok_or_else(damaged)?;
    file.read_exact_at(&mut end, end_at)?;
    let [count, of_entries, magic] = words(&end);
    if magic != u64::from_le_bytes(MAGIC) {
        return Err(damaged());
    }
    // As many as there is room for: what is set aside for them is no more than the file is long.
    let bytes = count.checked_mul(ENTRY as u64).filter(|bytes| *bytes <= end_at);
    let bytes = bytes.ok_or_else(damaged)?;
    let functions = end_at - bytes;
    let mut entries = vec![0; usize::try_from(bytes).map_err(|_| damaged())?];
    file.read_exact_at(&mut entries, functions)?;
    if checksum(configuration.as_bytes(), &entries) != of_entries {
        return Err(damaged());
    }
    let entries = entries.chunks_exact(ENTRY).map(|entry| {
        let (key, place) = entry.split_first_chunk().expect("an entry begins with a key");
        let [at, length, checksum] = words(place);
        let within = at.checked_add(length).is_some_and(|end| end <= functions);
        let length = usize::try_from(length).ok().filter(|_| within).ok_or_else(damaged)?;
        Ok((*key, Entry { at, length, checksum }))
    });
    entries.collect()
}

fn words(bytes: &[u8]) -> [u64; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("it is as long as a word"));
    }
    words
}

/// Of bytes that stand for what has this name.
fn checksum(name: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(name);
    hasher.update(bytes);
    hasher.digest()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged, or of another program")
}
