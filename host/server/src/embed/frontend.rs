//! A frontend that knows which io-nodes run.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::{self, IoServerUrl};
use crate::roles::frontend::Frontend;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

/// How often it is asked who is running,
const PAUSE: Duration = Duration::from_secs(1);
/// and as long as nobody is.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Pages and the list of io-nodes (`/config.js`), as a service of hyper and of tower: to be served by
/// [`http::serve`](crate::http::serve), or mounted into the program's own server, as its fallback or at the one address
/// of the list. It follows who is running until `shutdown` begins.
pub fn frontend(settings: &config::Frontend, transport: Transport, shutdown: &Shutdown) -> Frontend {
    let (list, running) = watch::channel(Vec::new());
    shutdown.spawn(keep_io_list(list, transport, shutdown.clone()));
    Frontend::new(settings, running)
}

/// Keeps the frontend's list of io-nodes no older than a moment.
pub async fn keep_io_list(list: watch::Sender<Vec<IoServerUrl>>, transport: Transport, shutdown: Shutdown) {
    let mut known = true;
    loop {
        let mut pause = PAUSE;
        match transport.nodes.io_nodes().await {
            Ok(nodes) => {
                known = true;
                if nodes.is_empty() {
                    pause = FIRST_PAUSE;
                }
                let servers = nodes.into_iter().map(|node| IoServerUrl {
                    host: node.host,
                    port: node.port,
                    scheme: Some(node.scheme).filter(|scheme| !scheme.is_empty()),
                    path: Some(node.path).filter(|path| !path.is_empty()),
                });
                list.send_replace(servers.collect());
            }
            // The last that was heard is better than none.
            Err(error) if std::mem::take(&mut known) => {
                tracing::warn!(%error, "cannot ask which io-nodes are running; the list stays as it is until that is known");
            }
            Err(error) => tracing::debug!(%error, "still cannot ask which io-nodes are running"),
        }
        if shutdown.is_announced() {
            // An io-node of this process is not to be found any more.
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shutdown.begun() => return,
            () = shutdown.announced(), if !shutdown.is_announced() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
