//! Compilation of components: in a child process, once per machine, without harming the node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plugnode_tests::{Client, Node, app, component, temp_folder, within};
use serde_json::json;

/// Number of replacements, and number of them before memory is first measured.
const SWAPS: usize = 40;
const WARM: usize = 20;

/// A project for `plugnode dev` with its own compile cache.
fn project(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = temp_folder();
    let settings = "[app-node]\ncache-dir = \"cache\"\n";
    fs::write(folder.path().join("plugnode.toml"), settings).expect("the file can be written");
    let wasm = folder.path().join("app.wasm");
    fs::write(&wasm, bytes).expect("the file can be written");
    (folder, wasm)
}

fn echo() -> Vec<u8> {
    fs::read(component("echo")).expect("the component was built")
}

/// Another build of a component: with a custom section that holds its number.
fn build(component: &[u8], number: usize) -> Vec<u8> {
    let text = format!("\x05build{number}");
    [component, &section(0, text.as_bytes())].concat()
}

/// The component with an unused module that takes many seconds to compile.
fn slow(component: &[u8]) -> Vec<u8> {
    const FUNCTIONS: usize = 8_000;
    // x = x + number, then x = x * 5 + x many times. The number makes the functions differ: equal ones are compiled once.
    let step = [0x20, 0, 0x41, 5, 0x6c, 0x20, 0, 0x6a, 0x21, 0];
    let body = |number: usize| {
        let own = [&[0x20, 0, 0x41][..], &leb(number), &[0x6a, 0x21, 0]].concat();
        let body = [&[0][..], &own, &step.repeat(300), &[0x20, 0, 0x0b]].concat();
        [leb(body.len()), body].concat()
    };
    let bodies: Vec<_> = (0..FUNCTIONS).flat_map(body).collect();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[leb(FUNCTIONS), vec![0; FUNCTIONS]].concat()),
        section(10, &[leb(FUNCTIONS), bodies].concat()),
    ];
    [component, &section(1, &module.concat())].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn compiled(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("compiled")).expect("it was made");
    let files = entries.map(|entry| entry.expect("it can be listed").path());
    files.filter(|path| path.is_file()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file exists").permissions().mode() & 0o7777
}

/// Waits for the compiler process of a node.
async fn compiler_of(node: &Node) -> Pid {
    let found = async {
        loop {
            if let Some(pid) = child_of(node.pid()) {
                return Pid::from_raw(pid as i32);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("a compiler is started", found).await
}

fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").expect("it runs on Linux").flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may contain anything: the state and the parent.
        let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
            && arguments
                .split(|byte| *byte == 0)
                .any(|argument| argument == b"compile")
    };
    pids.into_iter().find(is_child)
}

async fn await_end(pid: Pid) {
    let gone = async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the compiler ends", gone).await;
}

/// Whether a process runs; a zombie does not.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim().starts_with('Z'))
}

#[tokio::test]
async fn nodes_of_one_machine_share_compiled_component() {
    let cache = temp_folder();
    let cache = cache.path().join("of/plugnode");
    let config = format!(
        "[app-node]\ncache-dir = {cache:?}\n{}",
        app("/", &component("echo"), "")
    );
    let first = Node::run(&config).await;
    first.logged("component compiled").await;
    let [file] = &*compiled(&cache) else {
        panic!("{:?}", compiled(&cache))
    };
    assert_eq!((mode(file), mode(&cache.join("compiled"))), (0o600, 0o700));
    let made = fs::metadata(file).expect("the file exists").len();

    let second = Node::run(&config).await;
    second.logged("compiled component taken from the cache").await;
    assert!(!second.log().contains("component compiled"), "{}", second.log());
    assert_eq!(compiled(&cache), std::slice::from_ref(file));
    assert_eq!(fs::metadata(file).expect("the file exists").len(), made);
    for node in [&first, &second] {
        let mut client = Client::connect(node).await;
        assert_eq!(client.ask("here", &[json!(1)]).await, [json!(1)]);
    }
}

#[tokio::test]
async fn next_build_reuses_compiled_functions() {
    let (folder, wasm) = project(&echo());
    let node = Node::dev(&wasm, &[]).await;
    let mut client = Client::connect(&node).await;
    let functions = folder.path().join("cache/compiled/functions");
    let kept = || {
        let entries = fs::read_dir(&functions).expect("the compiler made it");
        let files = entries.map(|entry| entry.expect("it can be listed").path());
        files.collect::<Vec<_>>()
    };
    let [first] = &*kept() else { panic!("{:?}", kept()) };
    assert_eq!((mode(first), mode(&functions)), (0o600, 0o700));
    let damage = |path: &Path| fs::write(path, "of another program").expect("the file is ours");
    for number in 1..4 {
        if number == 3 {
            damage(&kept()[0]);
        }
        fs::write(&wasm, build(&echo(), number)).expect("the file can be written");
        node.logged_times("rollout ended: release is in use", number).await;
        assert_eq!(client.ask("swap", &[json!(number)]).await, [json!(number)]);
        assert_eq!(client.event().await.0, "swap");
        assert_eq!(kept().len(), 1, "{:?}", kept());
    }
    assert!(
        fs::metadata(&kept()[0]).expect("the file exists").len() > 1000,
        "the damaged cache file is replaced"
    );
    assert!(
        !node.log().contains("not all is well with the compiler"),
        "{}",
        node.log()
    );
}

#[tokio::test]
async fn refuses_cache_writable_by_others() {
    let cache = temp_folder();
    let folder = cache.path().join("compiled");
    fs::create_dir(&folder).expect("the folder can be created");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("the file is ours");
    let settings = format!("[app-node]\ncache-dir = {:?}\n", cache.path());
    let mut node = Node::begin(&[settings, app("/", &component("echo"), "")].concat());
    assert!(!node.ended().await.success());
    node.logged("chmod go-w").await;
}

#[tokio::test]
async fn killed_compiler_fails_only_its_deploy() {
    let (_folder, wasm) = project(&echo());
    let node = Node::dev(&wasm, &[]).await;
    let mut client = Client::connect(&node).await;
    fs::write(&wasm, slow(&echo())).expect("the file can be written");
    let compiler = compiler_of(&node).await;
    assert_eq!(client.ask("meanwhile", &[json!(1)]).await, [json!(1)]);
    kill(compiler, Signal::SIGKILL).expect("it is the node's child");
    let line = node.logged("the compiler did not finish").await;
    assert!(line.contains("SIGKILL"), "{line}");
    assert_eq!(client.event().await.0, "meanwhile");
    assert_eq!(client.ask("still", &[json!(2)]).await, [json!(2)]);
    assert_eq!(client.event().await.0, "still");
    fs::write(&wasm, build(&echo(), 1)).expect("the file can be written");
    node.logged("rollout ended: release is in use").await;
    assert_eq!(client.ask("after", &[json!(3)]).await, [json!(3)]);
}

/// The compiler of a first release has the node's priority; one that runs while clients are served has a lower one.
#[tokio::test]
async fn only_later_compilers_run_at_low_priority() {
    let folder = temp_folder();
    let wasm = folder.path().join("slow.wasm");
    fs::write(&wasm, slow(&echo())).expect("the file can be written");
    let settings = format!("[app-node]\ncache-dir = {:?}\n", folder.path());
    let node = Node::begin(&[settings, app("/", &wasm, "")].concat());
    let compiler = compiler_of(&node).await;
    await_cpu_time(compiler).await;
    assert_eq!(nice(compiler.as_raw() as u32), nice(node.pid()));
    drop(node);

    let (_folder, wasm) = project(&echo());
    let node = Node::dev(&wasm, &[]).await;
    fs::write(&wasm, slow(&echo())).expect("the file can be written");
    let compiler = compiler_of(&node).await;
    let lowered = async {
        while nice(compiler.as_raw() as u32) <= nice(node.pid()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the compiler lowers its priority", lowered).await;
}

/// Waits until a process has used some processor time, so that its start is over.
async fn await_cpu_time(pid: Pid) {
    let used_some = async {
        while field(pid.as_raw() as u32, 11) < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the compiler uses processor time", used_some).await;
}

fn nice(pid: u32) -> i64 {
    field(pid, 16)
}

/// A field of /proc/PID/stat, counted from the state.
fn field(pid: u32, number: usize) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let field = rest.split_whitespace().nth(number);
    field.and_then(|field| field.parse().ok()).expect("the process runs")
}

#[tokio::test]
async fn stuck_compiler_does_not_block_shutdown() {
    let (_folder, wasm) = project(&echo());
    let node = Node::dev(&wasm, &[]).await;
    let mut client = Client::connect(&node).await;
    fs::write(&wasm, slow(&echo())).expect("the file can be written");
    let compiler = compiler_of(&node).await;
    kill(compiler, Signal::SIGSTOP).expect("it is the node's child");
    assert_eq!(client.ask("meanwhile", &[json!(1)]).await, [json!(1)]);
    drop(client);
    assert!(node.stop().await.success());
    await_end(compiler).await;
}

#[tokio::test]
async fn compiler_ends_with_its_killed_node() {
    let folder = temp_folder();
    let wasm = folder.path().join("slow.wasm");
    fs::write(&wasm, slow(&echo())).expect("the file can be written");
    let settings = format!("[app-node]\ncache-dir = {:?}\n", folder.path());
    let mut node = Node::begin(&[settings, app("/", &wasm, "")].concat());
    let compiler = compiler_of(&node).await;
    node.kill9().await;
    await_end(compiler).await;
}

/// SWAPS in the environment sets the number of replacements.
#[tokio::test]
async fn memory_stays_flat_over_many_swaps() {
    let swaps = std::env::var("SWAPS").map_or(SWAPS, |swaps| swaps.parse().expect("SWAPS is a number"));
    let (_folder, wasm) = project(&echo());
    let node = Node::dev(&wasm, &["--instances", "2"]).await;
    let mut client = Client::connect(&node).await;
    let mut before = 0;
    let began = Instant::now();
    for swap in 1..=swaps {
        fs::write(&wasm, build(&echo(), swap)).expect("the file can be written");
        node.logged_times("rollout ended: release is in use", swap).await;
        assert_eq!(client.ask("swap", &[json!(swap)]).await, [json!(swap)]);
        assert_eq!(client.event().await.0, "swap");
        if swap == WARM {
            before = node.memory();
        }
        if swap % WARM == 0 {
            println!("{swap} swaps in {:?}: {} MB", began.elapsed(), node.memory() >> 20);
        }
    }
    let grown = node.memory().saturating_sub(before);
    assert!(
        grown < 50 << 20,
        "memory grew by {grown} bytes between swap {WARM} and swap {swaps}"
    );
}
