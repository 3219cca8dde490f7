//! When components are compiled, and when what was compiled is used again. They need be no handlers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::kept::Bounds;
use crate::testing::script;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn open(cache: &TempDir, compiler: Compiler) -> Artifacts {
    try_open(cache, compiler).expect("it can be used")
}

fn try_open(cache: &TempDir, compiler: Compiler) -> Result<Artifacts, LoadError> {
    Artifacts::open(wasmtime::Engine::default(), Some(cache.path()), compiler)
}

/// A compiler that fails: what is loaded by it was there.
fn none() -> Compiler {
    Compiler::Child("/not/there".into())
}

async fn get(artifacts: &Artifacts, text: &str) -> Result<Component, LoadError> {
    let bytes = Bytes::from(wat::parse_str(text).expect("WAT"));
    artifacts.get(&Digest::of(&bytes), &bytes).await
}

fn files(cache: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.path().join("compiled")).expect("it is there");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_compiled_is_used_again() {
    let cache = folder();
    get(&open(&cache, Compiler::Here), "(component)")
        .await
        .expect("it compiles");
    let [file] = &*files(&cache) else {
        panic!("{:?}", files(&cache))
    };
    assert_eq!((mode(file), mode(&cache.path().join("compiled"))), (0o600, 0o700));
    let artifacts = open(&cache, none());
    get(&artifacts, "(component)").await.expect("it is there");
    let other = "(component (component))";
    assert!(get(&artifacts, other).await.is_err());
    get(&open(&cache, Compiler::Here), other).await.expect("it compiles");
    assert_eq!(files(&cache).len(), 2);
}

#[tokio::test]
async fn what_is_damaged_is_compiled_anew() {
    let cache = folder();
    let artifacts = open(&cache, Compiler::Here);
    drop(get(&artifacts, "(component)").await.expect("it compiles"));
    let file = files(&cache).remove(0);
    let whole = fs::read(&file).expect("it can be read");
    for damaged in [&whole[..whole.len() / 2], b"", b"of another program"] {
        fs::write(&file, damaged).expect("it can be written");
        let error = get(&open(&cache, none()), "(component)").await.unwrap_err().to_string();
        assert!(error.contains("cannot start"), "{error}");
        drop(get(&artifacts, "(component)").await.expect("it compiles"));
        assert_eq!(files(&cache), std::slice::from_ref(&file));
        get(&open(&cache, none()), "(component)")
            .await
            .expect("it is whole again");
    }
}

#[tokio::test]
async fn what_others_could_have_written_is_not_run() {
    let cache = folder();
    let artifacts = open(&cache, Compiler::Here);
    get(&artifacts, "(component)").await.expect("it compiles");
    let compiled = cache.path().join("compiled");
    let file = files(&cache).remove(0);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("it is ours");
    assert!(get(&open(&cache, none()), "(component)").await.is_err());
    get(&artifacts, "(component)").await.expect("it compiles");
    assert_eq!(mode(&file), 0o600);

    fs::set_permissions(&compiled, Permissions::from_mode(0o770)).expect("it is ours");
    for error in [
        try_open(&cache, Compiler::Here).unwrap_err(),
        get(&artifacts, "(component)").await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("(mode 0770)") && error.contains("chmod go-w"), "{error}");
        assert!(error.contains(&*compiled.to_string_lossy()), "{error}");
    }

    fs::remove_dir_all(&compiled).expect("it is ours");
    let elsewhere = folder();
    std::os::unix::fs::symlink(elsewhere.path(), &compiled).expect("a link can be made");
    let error = try_open(&cache, Compiler::Here).unwrap_err().to_string();
    assert!(error.contains("no folder"), "{error}");
}

#[tokio::test]
async fn folder_that_others_could_replace_is_refused() {
    let above = folder();
    let cache = above.path().join("cache");
    fs::create_dir(&cache).expect("it can be made");
    let open = || Artifacts::open(wasmtime::Engine::default(), Some(&cache), Compiler::Here);
    let artifacts = open().expect("nobody else writes there");
    get(&artifacts, "(component)").await.expect("it compiles");
    for mode in [0o777, 0o770] {
        fs::set_permissions(above.path(), Permissions::from_mode(mode)).expect("it is ours");
        for error in [open().unwrap_err(), get(&artifacts, "(component)").await.unwrap_err()] {
            let error = error.to_string();
            let named =
                error.contains(&format!("(mode 0{mode:o})")) && error.contains(&*above.path().to_string_lossy());
            assert!(named && error.contains("chmod go-w"), "{error}");
        }
    }
    // As in /tmp, nobody removes there what is another's.
    fs::set_permissions(above.path(), Permissions::from_mode(0o1777)).expect("it is ours");
    get(&open().expect("nobody replaces it"), "(component)")
        .await
        .expect("it is there");
}

#[tokio::test]
async fn link_in_the_place_of_a_file_is_not_followed() {
    let (cache, elsewhere) = (folder(), folder());
    get(&open(&cache, Compiler::Here), "(component)")
        .await
        .expect("it compiles");
    let file = files(&cache).remove(0);
    let moved = elsewhere.path().join("moved");
    fs::rename(&file, &moved).expect("it can be moved");
    std::os::unix::fs::symlink(&moved, &file).expect("a link can be made");
    assert!(get(&open(&cache, none()), "(component)").await.is_err());
}

#[tokio::test]
async fn open_file_is_loaded_whatever_its_name_names_by_now() {
    let cache = folder();
    let artifacts = open(&cache, Compiler::Here);
    get(&artifacts, "(component)").await.expect("it compiles");
    let file = files(&cache).remove(0);
    let name = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let opened = artifacts
        .folder
        .find(&name)
        .expect("it can be opened")
        .expect("it is there");
    fs::remove_file(&file).expect("it is ours");
    fs::write(&file, "of another").expect("it can be written");
    load(&artifacts.engine, &opened).expect("it is what was opened");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let cache = folder();
    fs::write(cache.path().join("compiled"), "in the way").expect("it can be written");
    let error = try_open(&cache, Compiler::Here).unwrap_err().to_string();
    assert!(error.contains("compiled") && error.contains("cache-dir"), "{error}");
}

#[tokio::test]
async fn of_two_at_once_one_compiles() {
    let (cache, tools) = (folder(), folder());
    let bytes = wat::parse_str("(component)").expect("WAT");
    let code = wasmtime::Engine::default()
        .precompile_component(&bytes)
        .expect("it compiles");
    fs::write(tools.path().join("code"), code).expect("it can be written");
    // Takes its time, and counts.
    let slow = script(&tools, "echo once >> \"$0.log\"; sleep 0.5; cat \"${0%/*}/code\"");
    let processes: Vec<_> = (0..4).map(|_| open(&cache, Compiler::Child(slow.clone()))).collect();
    let loaded = processes.iter().map(|process| get(process, "(component)"));
    for component in futures_util::future::join_all(loaded).await {
        component.expect("it compiles");
    }
    let log = fs::read_to_string(tools.path().join("script.log")).expect("it ran");
    assert_eq!(log, "once\n");
    assert_eq!(files(&cache).len(), 1, "no locks are left: {:?}", files(&cache));
}

#[tokio::test]
async fn who_waited_for_one_that_failed_compiles() {
    let (cache, tools) = (folder(), folder());
    let slow = script(&tools, "sleep 0.3; kill -9 $$");
    let (first, second) = (open(&cache, Compiler::Child(slow)), open(&cache, Compiler::Here));
    let fails = get(&first, "(component)");
    let waits = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        get(&second, "(component)").await
    };
    let (failed, compiled) = tokio::join!(fails, waits);
    assert!(failed.unwrap_err().to_string().contains("killed"));
    compiled.expect("it compiles");
    assert_eq!(files(&cache).len(), 1, "{:?}", files(&cache));
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let cache = folder();
    let compiled = Folder::open(Some(cache.path())).expect("it can be used");
    let day = Duration::from_secs(24 * 3600);
    for (name, age) in [
        ("a.cwasm", 1),
        ("b.cwasm", 3),
        ("c.cwasm", 2),
        ("unfinished-x", 1),
        ("notes", 9),
    ] {
        let path = cache.path().join("compiled").join(name);
        fs::write(&path, [0; 10]).expect("it can be written");
        let file = fs::File::options().append(true).open(&path).expect("it is there");
        file.set_modified(SystemTime::now() - day * age).expect("it is ours");
    }
    let names = |compiled: &Folder, files: usize, bytes: u64| {
        compiled.tidy("cwasm", Bounds { files, bytes }).expect("it is ours");
        let files = self::files(&cache);
        let names = files
            .iter()
            .map(|file| file.file_name().expect("a name").to_string_lossy().into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(&compiled, 3, 100), ["a.cwasm", "b.cwasm", "c.cwasm", "notes"]);
    assert_eq!(names(&compiled, 3, 29), ["a.cwasm", "c.cwasm", "notes"]);
    assert_eq!(names(&compiled, 1, 100), ["a.cwasm", "notes"]);
    assert_eq!(names(&compiled, 0, 0), ["a.cwasm", "notes"], "the one just made stays");
}

#[tokio::test]
async fn kept_bytes_are_found_while_they_are_whole() {
    let cache = folder();
    let artifacts = open(&cache, none());
    let bytes = Bytes::from_static(b"a component");
    let digest = Digest::of(&bytes);
    assert_eq!(artifacts.kept_bytes(&digest).await, None);
    artifacts.keep_bytes(&digest, &bytes).await;
    artifacts.keep_bytes(&digest, &bytes).await;
    assert!(artifacts.keeps_bytes(&digest).await);
    assert_eq!(artifacts.kept_bytes(&digest).await, Some(bytes));
    fs::write(&files(&cache)[0], b"damaged").expect("it is ours");
    assert_eq!(artifacts.kept_bytes(&digest).await, None);
}
