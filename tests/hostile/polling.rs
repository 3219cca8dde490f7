//! HTTP requests over a persistent connection, and polling sessions, which use two of these.

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

/// Time-out of anything expected.
const SILENCE: Duration = Duration::from_secs(4);
const SEPARATOR: char = '\x1e';

/// A persistent connection for well-formed requests, reopened when the server has closed it.
pub(crate) struct Http {
    server: Server,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An HTTP answer.
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

    /// Sends a GET.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.request(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a request.
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
            // The task ends when either side closes the connection.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("a connection is open")
    }
}

impl Answer {
    /// Fails unless the status is one of these; `what` names the request.
    pub(crate) fn must_be(&self, statuses: &[u16], what: &str) -> Result<()> {
        ensure!(
            statuses.contains(&self.status),
            "{what} is answered with {} {:.100}",
            self.status,
            self.body
        );
        Ok(())
    }
}

impl Polling {
    /// Opens a session.
    pub(crate) async fn open(mut polls: Http, headers: &[(&str, &str)]) -> Result<Self> {
        let path = polls.server.query("polling", "");
        let opened = timeout(SILENCE, polls.get(&path, headers))
            .await
            .context("a handshake is not answered")??;
        opened.must_be(&[200], "a handshake")?;
        let open: Value = serde_json::from_str(opened.body.strip_prefix('0').context("no open packet")?)?;
        let sid = open["sid"].as_str().context("no sid in the open packet")?.to_owned();
        Ok(Self {
            path: polls.server.query("polling", &format!("&sid={sid}")),
            posts: Http::new(polls.server.clone()),
            polls,
            sid,
        })
    }

    /// Joins namespace `/`.
    pub(crate) async fn join(&mut self) -> Result<()> {
        self.post("40").await?;
        loop {
            if self.poll().await?.iter().any(|packet| packet.starts_with("40")) {
                return Ok(());
            }
        }
    }

    /// Sends a POST and returns any answer.
    pub(crate) async fn try_post(&mut self, body: impl Into<Bytes>) -> Result<Answer> {
        let post = self.posts.request(Method::POST, &self.path, &[], body.into());
        timeout(2 * SILENCE, post).await.context("a POST is not answered")?
    }

    /// Sends a POST, which must succeed.
    pub(crate) async fn post(&mut self, body: impl Into<Bytes>) -> Result<()> {
        let answer = self.try_post(body).await?;
        answer.must_be(&[200], "a POST")
    }

    /// Polls and returns any answer.
    pub(crate) async fn try_poll(&mut self) -> Result<Answer> {
        let poll = self.polls.get(&self.path, &[]);
        timeout(SILENCE, poll)
            .await
            .with_context(|| format!("nothing comes within {SILENCE:?}"))?
    }

    /// Polls and returns the packets.
    pub(crate) async fn poll(&mut self) -> Result<Vec<String>> {
        let answer = self.try_poll().await?;
        answer.must_be(&[200], "a poll")?;
        Ok(answer.body.split(SEPARATOR).map(str::to_owned).collect())
    }

    /// Polls until `count` packets with this prefix have come, or none comes in time.
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

    /// Posts these bodies one after the other, and gathers packets meanwhile.
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

    /// Fails unless the session has ended: a poll is refused or returns a close packet.
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

/// Joins packets to a payload.
pub(crate) fn payload(packets: impl IntoIterator<Item = String>) -> String {
    packets.into_iter().collect::<Vec<_>>().join("\x1e")
}
