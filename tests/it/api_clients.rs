//! The clients of the server API, `plugnode-emitter` of npm and of PyPI: packed, installed elsewhere, and run against nodes.

use std::fs;
use std::path::Path;
use std::process::Command;

use plugnode_tests::{
    Cluster, Node, RedisServer, app, installed_tool, node_script, repository, run_command, temp_folder, within_minutes,
};
use tempfile::TempDir;

use crate::api::{Api, KEY, api_section};

const SETTINGS: &str = "grants = { keyvalue = [\"default\"] }\npresence = { channels = [\"seats\"] }";

fn api() -> String {
    let permissions = ["publish", "join", "leave", "disconnect", "find", "presence", "event"];
    api_section(&permissions, "calls-per-second = 1000")
}

/// Nodes that serve the API, and what clients of it need to know of them.
struct Nodes {
    nodes: Vec<Node>,
    apis: String,
    urls: String,
    _component: TempDir,
    _redis: Option<RedisServer>,
}

impl Nodes {
    async fn in_memory() -> Self {
        let (component, folder) = crate::scripts::built("tests/js/handlers/customs.js").await;
        let apps = app("/", &component, SETTINGS) + &app("/chat", &component, SETTINGS);
        Self::of(vec![Node::run(&(api() + &apps)).await], folder, None).await
    }

    async fn over_redis() -> Self {
        let (component, folder) = crate::scripts::built("tests/js/handlers/customs.js").await;
        let redis = RedisServer::start().await;
        let cluster = Cluster::new(redis.url()).transport("shards = 3").settings(&api());
        let cluster = cluster
            .app("/", &component, SETTINGS)
            .app("/chat", &component, SETTINGS);
        let (one, two, app) = tokio::join!(cluster.start_io(), cluster.start_io(), cluster.start_app());
        Self::of(vec![one, two, app], folder, Some(redis)).await
    }

    async fn of(nodes: Vec<Node>, component: TempDir, redis: Option<RedisServer>) -> Self {
        let mut apis = Vec::new();
        for node in &nodes {
            apis.push(format!("http://127.0.0.1:{}", Api::of(node).await.port));
        }
        let urls = nodes.iter().filter(|node| node.port() != 0).map(Node::url);
        // Two entries, also of one node.
        let urls: Vec<_> = urls.cycle().take(2).collect();
        Self {
            apis: apis.join(","),
            urls: urls.join(","),
            nodes,
            _component: component,
            _redis: redis,
        }
    }
}

/// A folder where the packed npm package is installed.
pub(crate) fn installed_npm_package() -> TempDir {
    let folder = temp_folder();
    let at = |name: &str| folder.path().join(name);
    run_command(
        Command::new("npm")
            .args(["pack", "--silent", "--pack-destination"])
            .arg(folder.path())
            .current_dir(repository().join("guest-sdk/clients/npm")),
    );
    fs::write(at("package.json"), r#"{ "private": true, "type": "module" }"#).expect("the file can be written");
    let install = [
        "install",
        "--silent",
        "--offline",
        "--no-audit",
        "--no-fund",
        "./plugnode-emitter-0.1.0.tgz",
    ];
    run_command(Command::new("npm").args(install).current_dir(folder.path()));
    for file in ["src/emitter.js", "src/index.mjs", "types/emitter.d.ts", "README.md"] {
        assert!(
            at("node_modules/plugnode-emitter").join(file).is_file(),
            "{file} is missing"
        );
    }
    folder
}

/// A folder with the packed Python package.
fn installed_python_package() -> TempDir {
    let folder = temp_folder();
    let python = || {
        let mut python = Command::new(installed_tool("python/bin/python"));
        python.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let sources = folder.path().join("sources");
    let package = repository().join("guest-sdk/clients/python");
    run_command(Command::new("cp").arg("-rL").arg(package).arg(&sources));
    run_command(
        python()
            .args(["-m", "build", "--no-isolation", "--outdir", "dist"])
            .arg(&sources),
    );
    let install = "-m pip install --quiet --disable-pip-version-check --no-index --no-deps --target installed \
                   dist/plugnode_emitter-0.1.0-py3-none-any.whl";
    run_command(python().args(install.split_whitespace()));
    for file in [
        "plugnode_emitter/py.typed",
        "plugnode_emitter-0.1.0.dist-info/licenses/LICENSE",
    ] {
        assert!(
            folder.path().join("installed").join(file).is_file(),
            "{file} is missing"
        );
    }
    folder
}

async fn assert_npm_package_works(nodes: &Nodes) {
    let folder = installed_npm_package();
    let folder = folder.path().to_str().expect("the path is UTF-8");
    node_script("api-client.mjs", &[folder, &nodes.apis, KEY, &nodes.urls]).await;
}

async fn assert_python_package_works(nodes: &Nodes) {
    let folder = installed_python_package();
    let paths = [folder.path().join("installed"), repository().join("tests/py")];
    let mut tests = tokio::process::Command::new(installed_tool("python/bin/python"));
    tests
        .arg(repository().join("tests/py/api_client.py"))
        .args([&*nodes.apis, KEY, &nodes.nodes[0].url()])
        .env("PYTHONPATH", std::env::join_paths(paths).expect("no path has a colon"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true);
    let ran = within_minutes(2, "the Python tests end", tests.output()).await;
    let ran = ran.expect("Python is installed");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn npm_package_calls_nodes() {
    assert_npm_package_works(&Nodes::in_memory().await).await;
}

#[tokio::test]
async fn npm_package_calls_nodes_over_redis() {
    assert_npm_package_works(&Nodes::over_redis().await).await;
}

#[tokio::test]
async fn python_package_calls_nodes() {
    assert_python_package_works(&Nodes::in_memory().await).await;
}

#[tokio::test]
async fn python_package_calls_nodes_over_redis() {
    assert_python_package_works(&Nodes::over_redis().await).await;
}

#[test]
fn type_checkers_find_wrong_uses_of_clients() {
    let folder = installed_npm_package();
    let modules = repository().join("tests/node_modules");
    fs::copy(
        repository().join("tests/js/api-client-types.ts"),
        folder.path().join("types.ts"),
    )
    .expect("the file can be copied");
    let options = "--noEmit --strict --module nodenext --target es2022 --types node --typeRoots";
    run_command(
        Command::new("node")
            .arg(modules.join("typescript/bin/tsc"))
            .args(options.split(' '))
            .arg(modules.join("@types"))
            .arg("types.ts")
            .current_dir(folder.path()),
    );

    let package = repository().join("guest-sdk/clients/python");
    let check = |path: &Path| {
        run_command(
            Command::new(installed_tool("python/bin/python"))
                .args(["-m", "mypy", "--strict", "--cache-dir"])
                .arg(folder.path().join("mypy"))
                .arg(path)
                .env("PYTHONPATH", &package)
                .current_dir(repository()),
        );
    };
    check(&package.join("plugnode_emitter"));
    check(&repository().join("tests/py/api_client_types.py"));
}
