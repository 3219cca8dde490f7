//! What compilers leave for each other, and that none of it changes what they make.

use std::fs::Permissions;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::compiler::{compile, configuration};
use crate::engine::config;

const CONFIGURATION: &str = "0123";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn open(folder: &TempDir) -> Known {
    Known::open(folder.path(), CONFIGURATION).expect("it can be used")
}

fn key(number: u8) -> Key {
    [number; 32]
}

fn code(number: u8) -> Vec<u8> {
    vec![number; 100 + usize::from(number)]
}

/// Asks for these functions as Cranelift does, and compiles those that are not known. How many that are.
fn ask(known: &Known, functions: Range<u8>) -> usize {
    let unknown = functions.filter(|number| match known.get(&key(*number)) {
        Some(found) => {
            assert_eq!(*found, code(*number), "what is known is right");
            false
        }
        None => known.insert(&key(*number), code(*number)),
    });
    unknown.count()
}

/// A build of these functions. How many of them were not known.
fn build(folder: &TempDir, name: &str, functions: Range<u8>) -> usize {
    let known = open(folder);
    let unknown = ask(&known, functions);
    known.keep(name).expect("they can be kept");
    unknown
}

/// The names of the files, those used last first.
fn names(folder: &TempDir) -> String {
    let files = kept::list(folder.path(), EXTENSION)
        .expect("it can be listed")
        .into_iter();
    let names = files.map(|(path, ..)| path.file_stem().expect("a name").to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join(" ")
}

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(format!("{CONFIGURATION}-{name}.functions"))
}

fn age(path: &Path, days: u32) {
    let file = File::options().append(true).open(path).expect("it is there");
    let age = Duration::from_secs(24 * 3600) * days;
    file.set_modified(SystemTime::now() - age).expect("it is ours");
}

#[test]
fn the_next_build_compiles_what_is_new_in_it_and_takes_the_place_of_the_one_before() {
    let folder = folder();
    assert_eq!(build(&folder, "a", 0..20), 20);
    assert_eq!(build(&folder, "b", 2..22), 2);
    assert_eq!(names(&folder), "0123-b");
    let metadata = fs::metadata(file(&folder, "b")).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(build(&folder, "b", 0..20), 2, "what b had no use for is forgotten");
    assert_eq!(names(&folder), "0123-b");
}

#[test]
fn a_build_that_is_all_known_counts_as_used() {
    let folder = folder();
    build(&folder, "a", 0..20);
    build(&folder, "other", 100..120);
    age(&file(&folder, "a"), 2);
    age(&file(&folder, "other"), 1);
    assert_eq!(build(&folder, "b", 0..19), 0);
    assert_eq!(names(&folder), "0123-a 0123-other");
}

#[test]
fn a_function_that_is_in_a_build_twice_is_compiled_once() {
    let folder = folder();
    let known = open(&folder);
    assert_eq!(ask(&known, 0..20), 20);
    assert_eq!(ask(&known, 0..20), 0);
}

#[test]
fn a_family_keeps_its_functions_while_others_are_built() {
    let folder = folder();
    build(&folder, "a", 0..20);
    for number in 0..20 {
        // A few are alike in all families.
        build(&folder, &format!("b{number}"), 15 + number..60 + number);
    }
    assert_eq!(names(&folder), "0123-b19 0123-a");
    assert_eq!(build(&folder, "c", 0..21), 1);
    assert_eq!(names(&folder), "0123-c 0123-b19");
}

#[test]
fn what_is_damaged_counts_as_unknown_and_is_replaced() {
    let folder = folder();
    build(&folder, "a", 0..20);
    let path = file(&folder, "a");
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
        assert_eq!(build(&folder, "a", 0..20), lost);
        assert_eq!(build(&folder, "a", 0..20), 0, "it is whole again");
        assert_eq!(names(&folder), "0123-a");
    }
}

#[test]
fn what_is_of_another_configuration_is_left_alone() {
    let folder = folder();
    build(&folder, "a", 0..20);
    let other = folder.path().join("4567-a.functions");
    fs::rename(file(&folder, "a"), &other).expect("it is ours");
    assert_eq!(build(&folder, "a", 0..20), 20);
    assert!(other.exists());
    // Its name alone does not make it one of that configuration.
    let known = Known::open(folder.path(), "4567").expect("it can be used");
    assert!(known.builds.is_empty() && !other.exists());
}

#[test]
fn the_folder_is_bounded() {
    let folder = folder();
    for (name, days) in [
        ("a.functions", 1),
        ("b.functions", 3),
        ("c.functions", 2),
        ("unfinished-x", 1),
        ("notes", 9),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, [0; 10]).expect("it can be written");
        age(&path, days);
    }
    let left = |files, bytes| {
        kept::tidy(folder.path(), EXTENSION, Bounds { files, bytes }).expect("it is ours");
        names(&folder)
    };
    assert_eq!(left(3, 100), "a c b");
    assert!(!folder.path().join("unfinished-x").exists() && folder.path().join("notes").exists());
    assert_eq!(left(2, 100), "a c");
    assert_eq!(left(2, 19), "a");
    let known = open(&folder);
    ask(&known, 0..20);
    let bounds = Bounds { files: 1, bytes: 1 };
    known.keep_within("new", bounds).expect("it can be kept");
    assert_eq!(names(&folder), "0123-new", "the one just made stays");
}

#[test]
fn one_build_is_bounded() {
    let known = open(&folder());
    assert!(known.insert(&key(1), vec![0; MOST_OF_ONE - 1]));
    assert!(!known.insert(&key(2), vec![0; 2]));
    assert!(!known.insert(b"no key", vec![0]));
}

#[test]
fn compilers_at_work_at_once_do_each_other_no_harm() {
    let folder = folder();
    build(&folder, "a", 0..20);
    let (one, other, third) = (open(&folder), open(&folder), open(&folder));
    assert_eq!(ask(&one, 2..22), 2);
    one.keep("b").expect("it can be kept");
    assert!(!file(&folder, "a").exists());
    assert_eq!(ask(&other, 0..21), 1, "it has its file open");
    other.keep("c").expect("it can be kept");
    assert_eq!(ask(&third, 0..20), 0);
    third.keep("a").expect("it can be kept");
    assert!(file(&folder, "a").exists(), "it was gone, and is there again");
    assert_eq!(build(&folder, "d", 0..22), 0);
}

#[test]
fn what_others_could_have_written_is_not_used() {
    let folder = folder();
    build(&folder, "a", 0..20);
    fs::set_permissions(file(&folder, "a"), Permissions::from_mode(0o666)).expect("it is ours");
    assert_eq!(build(&folder, "a", 0..20), 20);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).expect("it is ours");
    let error = Known::open(folder.path(), CONFIGURATION).expect_err("others may write to it");
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

/// Compiles with what is known, and keeps it. How many functions were known, and how many were not.
fn compiled(folder: &TempDir, bytes: &[u8]) -> (usize, usize) {
    let name = configuration(&wasmtime::Engine::new(&config()).expect("an engine"));
    let alone = compile(bytes, &name, None).expect("it compiles");
    let compiled = compile(bytes, &name, Some(folder.path())).expect("it compiles");
    assert!(compiled.code == alone.code, "what is known changes nothing");
    let known = compiled.known.as_ref().and_then(|known| known.as_ref().ok());
    let counts = known.map_or((0, 0), |known| {
        let learned = known.learned.lock().expect("nobody has panicked");
        (learned.used.len(), learned.new.len())
    });
    alone.keep_functions().expect("there is nothing to keep");
    let _ = compiled.keep_functions();
    counts
}

#[test]
fn machine_code_is_the_same_whatever_is_known() {
    let folder = folder();
    let (known, new) = compiled(&folder, &component(1000));
    assert!(known == 0 && new >= FUNCTIONS, "{known} {new}");
    // A few of the functions that were there before can look new to Cranelift.
    let (known, new) = compiled(&folder, &component(2000));
    assert!(known > FUNCTIONS / 2 && new > 0, "{known} {new}");
    let file = kept::list(folder.path(), EXTENSION)
        .expect("it can be listed")
        .remove(0)
        .0;
    fs::write(&file, "of another program").expect("it is ours");
    let (known, _) = compiled(&folder, &component(2000));
    assert_eq!(known, 0);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("it is ours");
    assert_eq!(compiled(&folder, &component(2000)), (0, 0));
}
