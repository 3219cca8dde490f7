//! TLS certificates for tests: an authority, a server's certificate and a client's.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Creates `ca.crt`, `server.crt`, `server.key`, `client.crt` and `client.key` in a folder.
///
/// # Panics
/// When openssl is missing or fails, with its output.
pub async fn make(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority"),
    )
    .await;
    for (name, subject) in [("server", "IP:127.0.0.1,DNS:localhost"), ("client", "DNS:client")] {
        let extensions = format!("-addext subjectAltName={subject} -addext basicConstraints=critical,CA:FALSE");
        let issued = format!("-CA ca.crt -CAkey ca.key -keyout {name}.key -out {name}.crt -subj /CN={name}");
        openssl(folder, &format!("req -x509 {key} {issued} {extensions}")).await;
    }
}

async fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("cannot run openssl; install it, or run .ci/setup-tests");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments} failed:\n{said}");
}
