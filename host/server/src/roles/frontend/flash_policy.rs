//! Serves the policy file for Flash clients. Flash Player requests it on a port of its own, by a protocol that is not HTTP.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use plugnode_process::shutdown::Shutdown;

const REQUEST: &[u8] = b"<policy-file-request/>\0";
const POLICY: &[u8] = b"<?xml version=\"1.0\"?>\n\
    <!DOCTYPE cross-domain-policy SYSTEM \"http://www.macromedia.com/xml/dtds/cross-domain-policy.dtd\">\n\
    <cross-domain-policy><allow-access-from domain=\"*\" to-ports=\"*\"/></cross-domain-policy>\n\0";
/// Time for request and response together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Number of connections.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers that Flash clients may connect from any page to any port, until shutdown begins. Other or slow requests get no answer.
pub async fn serve_flash_policy(listener: TcpListener, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut begun = pin!(shutdown.begun());
    loop {
        // Connections over the limit wait in the kernel's queue, for a moment: an answer takes no longer.
        let permit = permits.clone().acquire_owned();
        let accepted = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            () = &mut begun => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                _ = shutdown.spawn(async move {
                    let _permit = permit;
                    let answered = tokio::time::timeout(TIMEOUT, answer(tcp)).await;
                    tracing::debug!(%peer, answered = matches!(answered, Ok(Ok(()))), "flash policy requested");
                })
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a flash policy connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut request = [0; REQUEST.len()];
    tcp.read_exact(&mut request).await?;
    if request != REQUEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    tcp.write_all(POLICY).await?;
    tcp.shutdown().await
}
