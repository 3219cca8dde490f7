//! Tests of the compile cache: when it compiles a component and when it reuses a compiled one. The components are not handlers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::lru_dir::DirBounds;
use crate::testing::script;

fn temp_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &TempDir, compiler: Compiler) -> CompileCache {
    try_open(dir, compiler).expect("it can be used")
}

fn try_open(dir: &TempDir, compiler: Compiler) -> Result<CompileCache, LoadError> {
    CompileCache::open(wasmtime::Engine::default(), Some(dir.path()), compiler)
}

/// A compiler that fails, so that only cached components load.
fn none() -> Compiler {
    Compiler::ChildProcess("/not/there".into())
}

async fn get(cache: &CompileCache, text: &str) -> Result<Component, LoadError> {
    let bytes = Bytes::from(wat::parse_str(text).expect("WAT"));
    cache.get(&Digest::of(&bytes), &bytes).await
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path().join("compiled")).expect("it is there");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[tokio::test]
async fn compiled_component_is_reused() {
    let dir = temp_dir();
    get(&open(&dir, Compiler::InProcess), "(component)")
        .await
        .expect("it compiles");
    let [file] = &*files(&dir) else {
        panic!("{:?}", files(&dir))
    };
    assert_eq!((mode(file), mode(&dir.path().join("compiled"))), (0o600, 0o700));
    let cache = open(&dir, none());
    get(&cache, "(component)").await.expect("it is there");
    let other = "(component (component))";
    assert!(get(&cache, other).await.is_err());
    get(&open(&dir, Compiler::InProcess), other).await.expect("it compiles");
    assert_eq!(files(&dir).len(), 2);
}

#[tokio::test]
async fn damaged_file_is_compiled_again() {
    let dir = temp_dir();
    let cache = open(&dir, Compiler::InProcess);
    drop(get(&cache, "(component)").await.expect("it compiles"));
    let file = files(&dir).remove(0);
    let whole = fs::read(&file).expect("it can be read");
    for damaged in [&whole[..whole.len() / 2], b"", b"of another program"] {
        fs::write(&file, damaged).expect("it can be written");
        let error = get(&open(&dir, none()), "(component)").await.unwrap_err().to_string();
        assert!(error.contains("cannot start"), "{error}");
        drop(get(&cache, "(component)").await.expect("it compiles"));
        assert_eq!(files(&dir), std::slice::from_ref(&file));
        get(&open(&dir, none()), "(component)")
            .await
            .expect("it is whole again");
    }
}

#[tokio::test]
async fn files_writable_by_others_are_not_run() {
    let dir = temp_dir();
    let cache = open(&dir, Compiler::InProcess);
    get(&cache, "(component)").await.expect("it compiles");
    let compiled = dir.path().join("compiled");
    let file = files(&dir).remove(0);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("it is ours");
    assert!(get(&open(&dir, none()), "(component)").await.is_err());
    get(&cache, "(component)").await.expect("it compiles");
    assert_eq!(mode(&file), 0o600);

    fs::set_permissions(&compiled, Permissions::from_mode(0o770)).expect("it is ours");
    for error in [
        try_open(&dir, Compiler::InProcess).unwrap_err(),
        get(&cache, "(component)").await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("(mode 0770)") && error.contains("chmod go-w"), "{error}");
        assert!(error.contains(&*compiled.to_string_lossy()), "{error}");
    }

    fs::remove_dir_all(&compiled).expect("it is ours");
    let elsewhere = temp_dir();
    std::os::unix::fs::symlink(elsewhere.path(), &compiled).expect("a link can be made");
    let error = try_open(&dir, Compiler::InProcess).unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");
}

#[tokio::test]
async fn directory_replaceable_by_others_is_refused() {
    let above = temp_dir();
    let dir = above.path().join("dir");
    fs::create_dir(&dir).expect("it can be made");
    let open = || CompileCache::open(wasmtime::Engine::default(), Some(&dir), Compiler::InProcess);
    let cache = open().expect("nobody else writes there");
    get(&cache, "(component)").await.expect("it compiles");
    for mode in [0o777, 0o770] {
        fs::set_permissions(above.path(), Permissions::from_mode(mode)).expect("it is ours");
        for error in [open().unwrap_err(), get(&cache, "(component)").await.unwrap_err()] {
            let error = error.to_string();
            let named =
                error.contains(&format!("(mode 0{mode:o})")) && error.contains(&*above.path().to_string_lossy());
            assert!(named && error.contains("chmod go-w"), "{error}");
        }
    }
    // With the sticky bit, as in /tmp, users cannot remove each other's files.
    fs::set_permissions(above.path(), Permissions::from_mode(0o1777)).expect("it is ours");
    get(&open().expect("nobody replaces it"), "(component)")
        .await
        .expect("it is there");
}

#[tokio::test]
async fn symbolic_link_is_not_followed() {
    let (dir, elsewhere) = (temp_dir(), temp_dir());
    get(&open(&dir, Compiler::InProcess), "(component)")
        .await
        .expect("it compiles");
    let file = files(&dir).remove(0);
    let moved = elsewhere.path().join("moved");
    fs::rename(&file, &moved).expect("it can be moved");
    std::os::unix::fs::symlink(&moved, &file).expect("a link can be made");
    assert!(get(&open(&dir, none()), "(component)").await.is_err());
}

#[tokio::test]
async fn loads_the_open_file_after_its_name_was_replaced() {
    let dir = temp_dir();
    let cache = open(&dir, Compiler::InProcess);
    get(&cache, "(component)").await.expect("it compiles");
    let file = files(&dir).remove(0);
    let name = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let opened = cache.dir.find(&name).expect("it can be opened").expect("it is there");
    fs::remove_file(&file).expect("it is ours");
    fs::write(&file, "of another").expect("it can be written");
    load(&cache.engine, &opened).expect("it is what was opened");
}

#[tokio::test]
async fn error_names_directory_that_cannot_be_created() {
    let dir = temp_dir();
    fs::write(dir.path().join("compiled"), "in the way").expect("it can be written");
    let error = try_open(&dir, Compiler::InProcess).unwrap_err().to_string();
    assert!(error.contains("compiled") && error.contains("cache-dir"), "{error}");
}

#[tokio::test]
async fn concurrent_processes_compile_once() {
    let (dir, tools) = (temp_dir(), temp_dir());
    let bytes = wat::parse_str("(component)").expect("WAT");
    let code = wasmtime::Engine::default()
        .precompile_component(&bytes)
        .expect("it compiles");
    fs::write(tools.path().join("code"), code).expect("it can be written");
    // Is slow, and logs each run.
    let slow = script(&tools, "echo once >> \"$0.log\"; sleep 0.5; cat \"${0%/*}/code\"");
    let processes: Vec<_> = (0..4)
        .map(|_| open(&dir, Compiler::ChildProcess(slow.clone())))
        .collect();
    let loaded = processes.iter().map(|process| get(process, "(component)"));
    for component in futures_util::future::join_all(loaded).await {
        component.expect("it compiles");
    }
    let log = fs::read_to_string(tools.path().join("script.log")).expect("it ran");
    assert_eq!(log, "once\n");
    assert_eq!(files(&dir).len(), 1, "no locks are left: {:?}", files(&dir));
}

#[tokio::test]
async fn waiting_process_compiles_after_another_failed() {
    let (dir, tools) = (temp_dir(), temp_dir());
    let slow = script(&tools, "sleep 0.3; kill -9 $$");
    let (first, second) = (
        open(&dir, Compiler::ChildProcess(slow)),
        open(&dir, Compiler::InProcess),
    );
    let fails = get(&first, "(component)");
    let waits = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        get(&second, "(component)").await
    };
    let (failed, compiled) = tokio::join!(fails, waits);
    assert!(failed.unwrap_err().to_string().contains("killed"));
    compiled.expect("it compiles");
    assert_eq!(files(&dir).len(), 1, "{:?}", files(&dir));
}

#[test]
fn least_recently_used_files_are_evicted() {
    let dir = temp_dir();
    let compiled = CacheDir::open(Some(dir.path())).expect("it can be used");
    let day = Duration::from_secs(24 * 3600);
    for (name, age) in [
        ("a.cwasm", 1),
        ("b.cwasm", 3),
        ("c.cwasm", 2),
        ("unfinished-x", 1),
        ("notes", 9),
    ] {
        let path = dir.path().join("compiled").join(name);
        fs::write(&path, [0; 10]).expect("it can be written");
        let file = fs::File::options().append(true).open(&path).expect("it is there");
        file.set_modified(SystemTime::now() - day * age).expect("it is ours");
    }
    let names = |compiled: &CacheDir, files: usize, bytes: u64| {
        compiled.evict("cwasm", DirBounds { files, bytes }).expect("it is ours");
        let files = self::files(&dir);
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
    assert_eq!(
        names(&compiled, 0, 0),
        ["a.cwasm", "notes"],
        "the most recent one stays"
    );
}

#[tokio::test]
async fn cached_bytes_are_found_until_damaged() {
    let dir = temp_dir();
    let cache = open(&dir, none());
    let bytes = Bytes::from_static(b"a component");
    let digest = Digest::of(&bytes);
    assert_eq!(cache.bytes(&digest).await, None);
    cache.put_bytes(&digest, &bytes).await;
    cache.put_bytes(&digest, &bytes).await;
    assert!(cache.has_bytes(&digest).await);
    assert_eq!(cache.bytes(&digest).await, Some(bytes));
    fs::write(&files(&dir)[0], b"damaged").expect("it is ours");
    assert_eq!(cache.bytes(&digest).await, None);
}
