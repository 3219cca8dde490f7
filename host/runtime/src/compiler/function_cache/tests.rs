//! Which functions compilers reuse, and that the machine code is the same with and without the cache.

use std::fs::Permissions;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::compiler::{compile, configuration};
use crate::wasmtime_config::config;

const CONFIGURATION: &str = "0123";

fn temp_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &TempDir) -> FunctionCache {
    FunctionCache::open(dir.path(), CONFIGURATION).expect("it can be used")
}

fn key(number: u8) -> FunctionKey {
    [number; 32]
}

fn code(number: u8) -> Vec<u8> {
    vec![number; 100 + usize::from(number)]
}

/// Looks these functions up as Cranelift does, and inserts those that are missing. Returns the number of those.
fn ask(cache: &FunctionCache, functions: Range<u8>) -> usize {
    let missing = functions.filter(|number| match cache.get(&key(*number)) {
        Some(found) => {
            assert_eq!(*found, code(*number), "the cached code is right");
            false
        }
        None => cache.insert(&key(*number), code(*number)),
    });
    missing.count()
}

/// Builds these functions. Returns the number of those that were not cached.
fn build(dir: &TempDir, name: &str, functions: Range<u8>) -> usize {
    let cache = open(dir);
    let missing = ask(&cache, functions);
    cache.store(name).expect("they can be stored");
    missing
}

/// The names of the files, most recently used first.
fn names(dir: &TempDir) -> String {
    let files = lru_dir::list(dir.path(), EXTENSION)
        .expect("it can be listed")
        .into_iter();
    let names = files.map(|(path, ..)| path.file_stem().expect("a name").to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join(" ")
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(format!("{CONFIGURATION}-{name}.functions"))
}

fn age(path: &Path, days: u32) {
    let file = File::options().append(true).open(path).expect("it is there");
    let age = Duration::from_secs(24 * 3600) * days;
    file.set_modified(SystemTime::now() - age).expect("it is ours");
}

#[test]
fn next_build_compiles_only_new_functions_and_replaces_the_file() {
    let dir = temp_dir();
    assert_eq!(build(&dir, "a", 0..20), 20);
    assert_eq!(build(&dir, "b", 2..22), 2);
    assert_eq!(names(&dir), "0123-b");
    let metadata = fs::metadata(file(&dir, "b")).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(build(&dir, "b", 0..20), 2, "functions that b did not use are forgotten");
    assert_eq!(names(&dir), "0123-b");
}

#[test]
fn fully_cached_build_marks_its_file_as_used() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    build(&dir, "other", 100..120);
    age(&file(&dir, "a"), 2);
    age(&file(&dir, "other"), 1);
    assert_eq!(build(&dir, "b", 0..19), 0);
    assert_eq!(names(&dir), "0123-a 0123-other");
}

#[test]
fn function_that_occurs_twice_is_compiled_once() {
    let dir = temp_dir();
    let cache = open(&dir);
    assert_eq!(ask(&cache, 0..20), 20);
    assert_eq!(ask(&cache, 0..20), 0);
}

#[test]
fn family_keeps_its_functions_while_others_are_built() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    for number in 0..20 {
        // A few are alike in all families.
        build(&dir, &format!("b{number}"), 15 + number..60 + number);
    }
    assert_eq!(names(&dir), "0123-b19 0123-a");
    assert_eq!(build(&dir, "c", 0..21), 1);
    assert_eq!(names(&dir), "0123-c 0123-b19");
}

#[test]
fn damaged_functions_are_compiled_again_and_replaced() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    let path = file(&dir, "a");
    let whole = fs::read(&path).expect("it can be read");
    // In a function, in an entry, and in each word at the end.
    let (length, all, one) = (whole.len(), 20, 1);
    let flips = [
        (10, one),
        (length - 100, all),
        (length - 20, all),
        (length - 12, all),
        (length - 4, all),
    ];
    let flipped = flips.map(|(at, lost)| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        (damaged, lost)
    });
    let cut = [0, 7, 30, length / 2, length - 1].map(|length| (whole[..length].to_vec(), all));
    let other = [vec![b'x'; 100], vec![0xff; length]].map(|bytes| (bytes, all));
    for (damaged, lost) in flipped.into_iter().chain(cut).chain(other) {
        fs::write(&path, damaged).expect("it is ours");
        assert_eq!(build(&dir, "a", 0..20), lost);
        assert_eq!(build(&dir, "a", 0..20), 0, "the file is undamaged again");
        assert_eq!(names(&dir), "0123-a");
    }
}

#[test]
fn files_of_other_configurations_are_ignored() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    let other = dir.path().join("4567-a.functions");
    fs::rename(file(&dir, "a"), &other).expect("it is ours");
    assert_eq!(build(&dir, "a", 0..20), 20);
    assert!(other.exists());
    // Its name alone does not make it one of that configuration.
    let cache = FunctionCache::open(dir.path(), "4567").expect("it can be used");
    assert!(cache.files.is_empty() && !other.exists());
}

#[test]
fn directory_is_bounded() {
    let dir = temp_dir();
    for (name, days) in [
        ("a.functions", 1),
        ("b.functions", 3),
        ("c.functions", 2),
        ("unfinished-x", 1),
        ("notes", 9),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, [0; 10]).expect("it can be written");
        age(&path, days);
    }
    let left = |files, bytes| {
        lru_dir::evict(dir.path(), EXTENSION, DirBounds { files, bytes }).expect("it is ours");
        names(&dir)
    };
    assert_eq!(left(3, 100), "a c b");
    assert!(!dir.path().join("unfinished-x").exists() && dir.path().join("notes").exists());
    assert_eq!(left(2, 100), "a c");
    assert_eq!(left(2, 19), "a");
    let cache = open(&dir);
    ask(&cache, 0..20);
    let bounds = DirBounds { files: 1, bytes: 1 };
    cache.store_within("new", bounds).expect("it can be stored");
    assert_eq!(names(&dir), "0123-new", "the most recent one stays");
}

#[test]
fn size_of_one_build_is_bounded() {
    let cache = open(&temp_dir());
    assert!(cache.insert(&key(1), vec![0; MAX_BUILD - 1]));
    assert!(!cache.insert(&key(2), vec![0; 2]));
    assert!(!cache.insert(b"no key", vec![0]));
}

#[test]
fn concurrent_compilers_do_not_disturb_each_other() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    let (one, other, third) = (open(&dir), open(&dir), open(&dir));
    assert_eq!(ask(&one, 2..22), 2);
    one.store("b").expect("it can be stored");
    assert!(!file(&dir, "a").exists());
    assert_eq!(ask(&other, 0..21), 1, "it has its file open");
    other.store("c").expect("it can be stored");
    assert_eq!(ask(&third, 0..20), 0);
    third.store("a").expect("it can be stored");
    assert!(file(&dir, "a").exists(), "it was gone, and is there again");
    assert_eq!(build(&dir, "d", 0..22), 0);
}

#[test]
fn files_writable_by_others_are_not_used() {
    let dir = temp_dir();
    build(&dir, "a", 0..20);
    fs::set_permissions(file(&dir, "a"), Permissions::from_mode(0o666)).expect("it is ours");
    assert_eq!(build(&dir, "a", 0..20), 20);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).expect("it is ours");
    let error = FunctionCache::open(dir.path(), CONFIGURATION).expect_err("others may write to it");
    let error = error.to_string();
    assert!(error.contains("(mode 0770)") && error.contains("chmod go-w"), "{error}");
}

const FUNCTIONS: usize = 40;

/// A component whose functions are all different; the last one has this number.
fn component(last: usize) -> Vec<u8> {
    let function = |number: usize| {
        let own = if number + 1 == FUNCTIONS { last } else { number };
        format!(
            "(func $f{number} (type $t) (param i32) (result i32)
               (if (i32.eqz (local.get 0)) (then (return (i32.const {own}))))
               (block $a (block $b (br_table $a $b $a (local.get 0))) (i32.store (i32.const 0) (i32.const {own})))
               (i32.add (i32.load (i32.add (local.get 0) (i32.const {own})))
                 (call_indirect (type $t) (i32.const 0) (i32.rem_u (local.get 0) (i32.const {FUNCTIONS})))))"
        )
    };
    let functions: String = (0..FUNCTIONS).map(function).collect();
    let names: String = (0..FUNCTIONS).map(|number| format!(" $f{number}")).collect();
    let text = format!(
        "(component (core module (type $t (func (param i32) (result i32))) (memory 1) (table funcref (elem{names}))
           {functions} (export \"f\" (func $f0))))"
    );
    wat::parse_str(text).expect("WAT")
}

/// Compiles with the cache, and stores the functions. Returns the numbers of cached and of new functions.
fn compiled(dir: &TempDir, bytes: &[u8]) -> (usize, usize) {
    let name = configuration(&wasmtime::Engine::new(&config()).expect("an engine"));
    let alone = compile(bytes, &name, None).expect("it compiles");
    let compiled = compile(bytes, &name, Some(dir.path())).expect("it compiles");
    assert!(
        compiled.code == alone.code,
        "the cache does not change the machine code"
    );
    let cache = compiled.functions.as_ref().and_then(|cache| cache.as_ref().ok());
    let counts = cache.map_or((0, 0), |cache| {
        let build = cache.build.lock();
        (build.cached.len(), build.new.len())
    });
    alone.cache_functions().expect("there is nothing to store");
    let _ = compiled.cache_functions();
    counts
}

#[test]
fn machine_code_is_the_same_with_and_without_cache() {
    let dir = temp_dir();
    let (cached, new) = compiled(&dir, &component(1000));
    assert!(cached == 0 && new >= FUNCTIONS, "{cached} {new}");
    // A few of the functions that were there before can look new to Cranelift.
    let (cached, new) = compiled(&dir, &component(2000));
    assert!(cached > FUNCTIONS / 2 && new > 0, "{cached} {new}");
    let file = lru_dir::list(dir.path(), EXTENSION)
        .expect("it can be listed")
        .remove(0)
        .0;
    fs::write(&file, "of another program").expect("it is ours");
    let (cached, _) = compiled(&dir, &component(2000));
    assert_eq!(cached, 0);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("it is ours");
    assert_eq!(compiled(&dir, &component(2000)), (0, 0));
}
