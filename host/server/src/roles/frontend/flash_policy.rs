//! The policy file of Flash clients. Their player asks for it on a port of its own, by a question that is not HTTP.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use plugnode_process::shutdown::Shutdown;

const QUESTION: &[u8] = b"<policy-file-request/>\0";
const POLICY: &[u8] = b"<?xml version=\"1.0\"?>\n\
    <!DOCTYPE cross-domain-policy SYSTEM \"http://www.macromedia.com/xml/dtds/cross-domain-policy.dtd\">\n\
    <cross-domain-policy><allow-access-from domain=\"*\" to-ports=\"*\"/></cross-domain-policy>\n\0";
/// For question and answer together.
const TIME: Duration = Duration::from_secs(5);
const MOST_AT_ONCE: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells whoever asks that Flash clients may connect from any page to any port, until shutdown begins. What is not
/// the question, or comes slowly, gets no answer.
pub async fn serve_flash_policy(listener: TcpListener, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let mut begun = pin!(shutdown.begun());
    loop {
        // Whoever comes beyond the limit waits in the kernel's queue: an answer is a matter of a moment.
        let permit = room.clone().acquire_owned();
        let accepted = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            () = &mut begun => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                _ = shutdown.spawn(async move {
                    let _permit = permit;
                    let answered = tokio::time::timeout(TIME, answer(tcp)).await;
                    tracing::debug!(%peer, answered = matches!(answered, Ok(Ok(()))), "flash policy");
                })
            }
            Err(error) => {
                tracing::debug!(%error, "cannot take a flash policy connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut question = [0; QUESTION.len()];
    tcp.read_exact(&mut question).await?;
    if question != QUESTION {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    tcp.write_all(POLICY).await?;
    tcp.shutdown().await
}
