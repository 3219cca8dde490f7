//! Reloading while running: configuration, secrets and certificates.

use std::fs;

use plugnode_tests::{Client, Node, app, component, temp_folder};

use crate::operation::status;

pub(crate) const SECRETS: [&str; 2] = [
    "one that is long enough for HS256, really",
    "two that is long enough for HS256, really",
];

#[tokio::test]
async fn sighup_reloads_config_and_logs_changes() {
    let folder = temp_folder();
    let (file, secret) = (folder.path().join("plugnode.toml"), folder.path().join("secret"));
    let app = app("/", &component("echo"), "");
    let write = |settings: &str| {
        let token = format!("[io-node.token]\nsecret-file = {secret:?}\nrequired = false\n");
        fs::write(&file, format!("[io-node]\n{settings}\n{token}\n{app}")).expect("the file can be written");
    };
    fs::write(&secret, SECRETS[0]).expect("the file can be written");
    write("");
    let node = Node::configured(&file, &[]).await;
    let mut client = Client::connect(&node).await;
    node.send_sighup();
    node.logged("nothing changed that takes effect").await;
    fs::write(&secret, SECRETS[1]).expect("the file can be written");
    write(
        "max-clients-per-address = 1\nping-interval-ms = 20000\n[log]\nlevel = \"debug\"\n[transport]\nlease-ms = 4000\n",
    );
    node.send_sighup();
    let line = node.logged("configuration reloaded changed=").await;
    for part in [
        "io-node.max-clients-per-address: null → 1",
        "log.level: \"info\" → \"debug\"",
        "the keys of tokens",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let line = node.logged("restart the process to apply changes").await;
    assert!(line.contains("io-node.ping-interval-ms, transport.lease-ms"), "{line}");
    let opened = async || {
        status(node.port(), "/socket.io/?EIO=4&transport=polling")
            .await
            .expect("the node listens")
    };
    // The new limit counts sessions opened from now on.
    assert!(opened().await.contains("200"));
    assert!(opened().await.contains("429"));
    let unknown = status(node.port(), "/socket.io/?EIO=4&transport=polling&sid=nobody").await;
    assert!(unknown.expect("the node listens").contains("400"));
    node.logged("DEBUG").await;
    client.ask("n", &[]).await;

    // A reload is all or nothing: with an invalid secret, the limit stays as well.
    fs::write(&secret, "short").expect("the file can be written");
    write("max-clients-per-address = 50");
    node.send_sighup();
    let line = node.logged("configuration not reloaded").await;
    assert!(line.contains("ERROR") && line.contains("io-node.token"), "{line}");
    assert!(opened().await.contains("429"));

    write("max-clients-per-address = 0");
    node.send_sighup();
    let log = node.logged_times("configuration not reloaded", 2).await;
    assert!(log.contains("max-clients-per-address"), "{log}");
    client.ask("n", &[]).await;
    let (_, log) = node.stop_with_log().await;
    assert!(!log.contains(SECRETS[0]) && !log.contains(SECRETS[1]), "{log}");
}

/// Creates a self-signed certificate for localhost with this serial number.
fn certificate(folder: &std::path::Path, serial: &str) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout new.key -out new.pem";
    let made = std::process::Command::new("openssl")
        .args(arguments.split(' '))
        .args(["-set_serial", serial])
        .current_dir(folder)
        .output();
    let made = made.expect("openssl can be started; run .ci/setup-tests openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["key", "pem"] {
        // Replaced atomically.
        let new = folder.join(format!("new.{name}"));
        fs::rename(new, folder.join(format!("https.{name}"))).expect("it can be moved");
    }
}

/// The serial number of the certificate that a port presents.
async fn presented_serial(port: u16) -> String {
    let line =
        format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    let shown = tokio::process::Command::new("sh").args(["-c", &line]).output();
    String::from_utf8_lossy(&shown.await.expect("there is a shell").stdout)
        .trim()
        .to_owned()
}

#[tokio::test]
async fn changed_certificate_is_reloaded() {
    let folder = temp_folder();
    certificate(folder.path(), "17");
    let place = |name: &str| folder.path().join(name);
    let settings = format!(
        "[http]\ntls-cert = {:?}\ntls-key = {:?}\n",
        place("https.pem"),
        place("https.key")
    );
    let node = Node::begin(&(settings + &app("/", &component("echo"), "")));
    let line = node.logged("listening on https://").await;
    let port = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    let port = port.expect("the line has the port");
    assert_eq!(presented_serial(port).await, "serial=11");
    certificate(folder.path(), "18");
    node.logged("the certificate was read again").await;
    assert_eq!(presented_serial(port).await, "serial=12");
    // An invalid file changes nothing.
    fs::write(place("https.pem"), "no certificate").expect("the file can be written");
    node.send_sighup();
    node.logged("the certificate stays as it was").await;
    assert_eq!(presented_serial(port).await, "serial=12");
}
