//! The listener for operators: `/healthz`, `/readyz` and `/metrics`, apart from the port of clients.
//!
//! Clients that fill the other port cannot keep a health check or a scrape from being answered. It answers from before the
//! roles start until the process ends, and knows the roles only by the checks that it is given.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{HttpSettings, serve};
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// How long a check may take, unless a test says otherwise.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections held at once.
const MAX_CONNECTIONS: usize = 64;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers operators. Clones are the same.
#[derive(Clone)]
pub struct Operations {
    checks: Arc<OnceLock<Vec<Check>>>,
    backlog: Arc<OnceLock<Backlog>>,
    /// How long a check may take.
    patience: Duration,
    shutdown: Shutdown,
}

/// Asks how many events wait.
struct Backlog(Box<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>);

/// One thing that must hold for a process to be ready.
pub struct Check {
    name: &'static str,
    look: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl Check {
    /// A check of this name, whose error says for a person what does not hold.
    pub fn new<F>(name: &'static str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name,
            look: Box::new(move || Box::pin(look())),
        }
    }

    async fn finding(&self, patience: Duration) -> (&'static str, Result<(), String>) {
        let found = timeout(patience, (self.look)()).await;
        let found = found.unwrap_or_else(|_| Err(format!("no answer within {} ms", patience.as_millis())));
        (self.name, found)
    }
}

impl Operations {
    /// Of a process that has not started yet and ends with `shutdown`.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            checks: Arc::default(),
            backlog: Arc::default(),
            patience: PATIENCE,
            shutdown: shutdown.clone(),
        }
    }

    /// The roles have started. From now on these checks say whether the process is ready.
    pub fn started(&self, checks: Vec<Check>) {
        let first = self.checks.set(checks);
        debug_assert!(first.is_ok(), "a process starts once");
    }

    /// Tells from now on how many events wait in the cluster, where that is known.
    pub fn tell_backlog<F>(&self, look: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<u64>> + Send + 'static,
    {
        let first = self.backlog.set(Backlog(Box::new(move || Box::pin(look()))));
        debug_assert!(first.is_ok(), "a process starts once");
    }

    /// Answers on this listener until the process ends: also while it drains, so no task of the shutdown.
    pub fn serve_on(&self, listener: TcpListener) {
        let settings = HttpSettings {
            max_connections: MAX_CONNECTIONS,
            ..HttpSettings::default()
        };
        let service = self.clone();
        tokio::spawn(async move { serve(listener, service, &settings, Shutdown::new()).await });
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, media_type, text) = match path {
            "/healthz" | "/readyz" | "/metrics" if !matches!(*method, Method::GET | Method::HEAD) => {
                let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".into());
                answer
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return answer;
            }
            "/healthz" => (StatusCode::OK, PLAIN, "ok\n".into()),
            "/readyz" => {
                let (status, text) = self.readiness().await;
                (status, PLAIN, text)
            }
            "/metrics" => {
                let media_type = HeaderValue::from_static(metrics::MEDIA_TYPE);
                let backlog = match self.backlog.get() {
                    Some(Backlog(look)) => timeout(self.patience, look()).await.ok().flatten(),
                    None => None,
                };
                (StatusCode::OK, media_type, metrics::text(backlog))
            }
            _ => {
                let text = "there are /healthz, /readyz and /metrics\n";
                (StatusCode::NOT_FOUND, PLAIN, text.into())
            }
        };
        told(status, media_type, text)
    }

    /// A line for each check, `[+]` before one that holds and `[-]` before one that does not, with the reason.
    async fn readiness(&self) -> (StatusCode, String) {
        let shutdown = match self.shutdown.is_announced() {
            true => Err("shutting down".to_owned()),
            false => Ok(()),
        };
        let mut found = vec![("shutdown", shutdown)];
        match self.checks.get() {
            Some(checks) => found.extend(join_all(checks.iter().map(|check| check.finding(self.patience))).await),
            None => found.push(("start", Err("the roles are starting".to_owned()))),
        }
        let is_ready = found.iter().all(|(_, found)| found.is_ok());
        let lines = found.into_iter().map(|(name, found)| match found {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(problem) => format!("[-]{name} failed: {problem}\n"),
        });
        let (status, last) = match is_ready {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        };
        (status, lines.chain([last.to_owned()]).collect())
    }
}

fn told(status: StatusCode, media_type: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<B> Service<Request<B>> for Operations {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Box::pin(async move { Ok(this.answer(&method, &path).await) })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(operations: &Operations, path: &str) -> (StatusCode, String) {
        let answer = operations.answer(&Method::GET, path).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_each_check() {
        let shutdown = Shutdown::new();
        let operations = Operations::new(&shutdown);
        let (status, text) = get(&operations, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("[-]start failed: the roles are starting\n"), "{text}");
        assert_eq!(get(&operations, "/healthz").await.0, StatusCode::OK);

        operations.started(vec![Check::new("lease", || async { Ok(()) })]);
        let (status, text) = get(&operations, "/readyz").await;
        assert_eq!(
            (status, &*text),
            (StatusCode::OK, "[+]shutdown ok\n[+]lease ok\nready\n")
        );

        shutdown.begin();
        let (status, text) = get(&operations, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            text.starts_with("[-]shutdown failed: shutting down\n[+]lease ok\n"),
            "{text}"
        );
        assert_eq!(get(&operations, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn check_without_answer_fails_in_time() {
        let operations = Operations {
            patience: Duration::from_millis(10),
            ..Operations::new(&Shutdown::new())
        };
        operations.started(vec![
            Check::new("transport", std::future::pending),
            Check::new("io-node", || async { Err("not joined".to_owned()) }),
        ]);
        let (status, text) = get(&operations, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let expected = "[+]shutdown ok\n[-]transport failed: no answer within 10 ms\n\
                        [-]io-node failed: not joined\nnot ready\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn metrics_have_reasons_as_labels() {
        metrics::TOKENS_REFUSED.increment();
        let (status, text) = get(&Operations::new(&Shutdown::new()), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        let refused = "plugnode_clients_refused_total{reason=\"token\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(refused)).expect(&text);
        assert!(line.parse::<u64>().unwrap() >= 1);
        assert!(text.contains("# TYPE plugnode_events_accepted counter\n"), "{text}");
        assert!(
            text.contains("# TYPE plugnode_clients gauge\nplugnode_clients "),
            "{text}"
        );
        assert!(
            text.contains("plugnode_handling_seconds_bucket{le=\"+Inf\"} "),
            "{text}"
        );
        assert!(!text.contains("plugnode_backlog"), "nobody knows it");
        let operations = Operations::new(&Shutdown::new());
        operations.tell_backlog(|| async { Some(7) });
        assert!(get(&operations, "/metrics").await.1.contains("plugnode_backlog 7\n"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let operations = Operations::new(&Shutdown::new());
        assert_eq!(get(&operations, "/").await.0, StatusCode::NOT_FOUND);
        let answer = operations.answer(&Method::POST, "/metrics").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
