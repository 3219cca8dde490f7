//! The official clients, run by Node.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::fixture::*;

const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_receive_everything_across_upgrades() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    assert!(
        scripts.join("node_modules").exists(),
        "npm packages are missing: install them by `make test`"
    );
    let behaviour = Behaviour {
        echoes: true,
        is_silent: true,
        greetings: 500,
        ..Behaviour::default()
    };
    let fixture = Fixture::start(behaviour, settings()).await;
    let script = Command::new("node")
        .arg("js/engine.mjs")
        .arg(format!("http://{}", fixture.address))
        .arg("500")
        .current_dir(scripts)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, script).await.expect("the script ends").unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    println!("{stdout}");
    fixture.stop().await;
}
