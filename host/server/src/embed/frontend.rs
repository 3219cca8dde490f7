//! A frontend in a program, and the task that updates its list of io-nodes.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::{self, IoServerUrl};
use crate::roles::frontend::Frontend;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

/// How often the list of running io-nodes is read,
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// and while it is empty or about to change.
const FAST_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Pages and the list of io-nodes (`/config.js`), as a service of hyper and tower. Serve it by [`http::serve`](crate::http::serve), or
/// mount it in the program's own server, as the fallback or only at the path of the list. The list is updated until `shutdown`
/// begins.
pub fn frontend(settings: &config::Frontend, transport: Transport, shutdown: &Shutdown) -> Frontend {
    let (list, running) = watch::channel(Vec::new());
    shutdown.spawn(keep_io_list(list, transport, shutdown.clone()));
    Frontend::new(settings, running)
}

/// Keeps a list of running io-nodes up to date, until shutdown begins.
pub async fn keep_io_list(list: watch::Sender<Vec<IoServerUrl>>, transport: Transport, shutdown: Shutdown) {
    let mut is_readable = true;
    loop {
        let mut pause = POLL_INTERVAL;
        match transport.nodes.io_nodes().await {
            Ok(nodes) => {
                is_readable = true;
                if nodes.is_empty() {
                    pause = FAST_POLL_INTERVAL;
                }
                let servers = nodes.into_iter().map(|node| IoServerUrl {
                    host: node.host,
                    port: node.port,
                    scheme: Some(node.scheme).filter(|scheme| !scheme.is_empty()),
                    path: Some(node.path).filter(|path| !path.is_empty()),
                });
                list.send_replace(servers.collect());
            }
            // The last known list is better than none.
            Err(error) if std::mem::take(&mut is_readable) => {
                tracing::warn!(%error, "cannot read which io-nodes are running; the list stays as it is");
            }
            Err(error) => tracing::debug!(%error, "still cannot read which io-nodes are running"),
        }
        if shutdown.is_announced() {
            // An io-node of this process is leaving the list.
            pause = FAST_POLL_INTERVAL;
        }
        tokio::select! {
            () = shutdown.begun() => return,
            () = shutdown.announced(), if !shutdown.is_announced() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
