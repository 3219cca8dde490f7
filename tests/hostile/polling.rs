//! Requests over a connection that is kept, and a session by long polling, which is two of them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::server::Server;

/// What is expected and has not come for so long does not come.
const SILENCE: Duration = Duration::from_secs(4);
const SEPARATOR: char = '\x1e';

/// A connection for one well-formed request after the other; it is opened again when the server has closed it.
pub(crate) struct Http {
    server: Server,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A session by polling.
pub(crate) struct Polling {
    pub(crate) sid: String,
    polls: Http,
    posts: Http,
    /// The path and query of its requests.
    path: String,
}

impl Http {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, sender: None }
    }

    /// A GET.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.request(Method::GET, path, headers, Bytes::new()).await
    }

    /// Any request; its answer must come in time.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            request = request.header(HOST, &self.server.host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header(CONTENT_TYPE, "text/plain;charset=UTF-8")
            .body(Full::new(body))?;
        let sender = self.sender().await?;
        let answer = sender.send_request(request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer {
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let (sender, connection) = handshake(TokioIo::new(self.server.dial().await?)).await?;
            // It ends with the sender, or with the server.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("there is one")
    }
}

impl Polling {
    /// Opens a session.
    pub(crate) async fn open(mut polls: Http, headers: &[(&str, &str)]) -> Result<Self> {
        let path = polls.server.query("polling", "");
        let opened = timeout(SILENCE, polls.get(&path, headers))
            .await
            .context("a handshake is not answered")??;
        ensure!(
            opened.status == 200,
            "a handshake is answered by {} {:.100}",
            opened.status,
            opened.body
        );
        let open: Value = serde_json::from_str(opened.body.strip_prefix('0').context("no open packet")?)?;
        let sid = open["sid"].as_str().context("no sid in the open packet")?.to_owned();
        Ok(Self {
            path: polls.server.query("polling", &format!("&sid={sid}")),
            posts: Http::new(polls.server.clone()),
            polls,
            sid,
        })
    }

    /// Connects to namespace `/`.
    pub(crate) async fn join(&mut self) -> Result<()> {
        self.post("40").await?;
        loop {
            if self.poll().await?.iter().any(|packet| packet.starts_with("40")) {
                return Ok(());
            }
        }
    }

    /// One POST, whatever its answer.
    pub(crate) async fn try_post(&mut self, body: impl Into<Bytes>) -> Result<Answer> {
        let post = self.posts.request(Method::POST, &self.path, &[], body.into());
        timeout(2 * SILENCE, post).await.context("a POST is not answered")?
    }

    /// One POST, which must be taken.
    pub(crate) async fn post(&mut self, body: impl Into<Bytes>) -> Result<()> {
        let answer = self.try_post(body).await?;
        ensure!(
            answer.status == 200,
            "a POST is answered by {} {:.100}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// One GET, whatever its answer.
    pub(crate) async fn try_poll(&mut self) -> Result<Answer> {
        let poll = self.polls.get(&self.path, &[]);
        timeout(SILENCE, poll)
            .await
            .with_context(|| format!("nothing comes in {SILENCE:?}"))?
    }

    /// The packets of one GET.
    pub(crate) async fn poll(&mut self) -> Result<Vec<String>> {
        let answer = self.try_poll().await?;
        ensure!(
            answer.status == 200,
            "a poll is answered by {} {:.100}",
            answer.status,
            answer.body
        );
        Ok(answer.body.split(SEPARATOR).map(str::to_owned).collect())
    }

    /// Packets that begin like this, until there are so many, or no more come.
    pub(crate) async fn gather(&mut self, prefix: &str, count: usize) -> Vec<String> {
        let mut got = Vec::new();
        while got.len() < count {
            let Ok(packets) = self.poll().await else { break };
            if packets.iter().any(|packet| packet == "2") {
                let _ = self.try_post("3").await;
            }
            got.extend(packets.into_iter().filter(|packet| packet.starts_with(prefix)));
        }
        got
    }

    /// Posts these bodies one after the other, and gathers meanwhile.
    pub(crate) async fn burst(&mut self, bodies: Vec<String>, prefix: &str, count: usize) -> Vec<String> {
        let mut sender = Self {
            sid: self.sid.clone(),
            polls: Http::new(self.polls.server.clone()),
            posts: Http::new(self.polls.server.clone()),
            path: self.path.clone(),
        };
        let send = async {
            for body in bodies {
                if sender.post(body).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(send, self.gather(prefix, count)).1
    }

    /// Whether the session is over: a poll or a POST is refused, or says so.
    pub(crate) async fn is_over(&mut self) -> Result<()> {
        for _ in 0..3 {
            let answer = self.try_poll().await.context("the session goes on")?;
            if answer.status == 400 || answer.body.split(SEPARATOR).any(|packet| packet == "1") {
                return Ok(());
            }
        }
        bail!("the session goes on")
    }
}

/// A payload of these packets.
pub(crate) fn payload(packets: impl IntoIterator<Item = String>) -> String {
    packets.into_iter().collect::<Vec<_>>().join("\x1e")
}
