//! The port for operators: `/healthz`, `/readyz` and `/metrics`, apart from the clients' port.
//!
//! Clients that fill their port cannot block a health check or a scrape. This port answers from before the roles start until the
//! process ends, and knows the roles only by their checks.

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

use super::server::serve;
use super::settings::HttpSettings;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// Longest time of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of connections of the port.
const MAX_CONNECTIONS: usize = 64;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers operators. Clones share its state.
#[derive(Clone)]
pub struct Monitoring {
    checks: Arc<OnceLock<Vec<Check>>>,
    backlog: Arc<OnceLock<Backlog>>,
    check_timeout: Duration,
    shutdown: Shutdown,
}

/// Reads the number of events that are not committed.
struct Backlog(Box<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>);

/// A condition for a process to be ready.
pub struct Check {
    name: &'static str,
    run: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl Check {
    /// A check of this name. Its error tells a person why it failed.
    pub fn new<F>(name: &'static str, run: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name,
            run: Box::new(move || Box::pin(run())),
        }
    }

    async fn result(&self, limit: Duration) -> (&'static str, Result<(), String>) {
        let result = timeout(limit, (self.run)()).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())));
        (self.name, result)
    }
}

impl Monitoring {
    /// For a process whose roles have not started yet and that ends with `shutdown`.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            checks: Arc::default(),
            backlog: Arc::default(),
            check_timeout: CHECK_TIMEOUT,
            shutdown: shutdown.clone(),
        }
    }

    /// Call this when the roles have started: from now on these checks decide whether the process is ready.
    pub fn started(&self, checks: Vec<Check>) {
        let first = self.checks.set(checks);
        debug_assert!(first.is_ok(), "set once");
    }

    /// Adds the number of events in the cluster that are not committed to the metrics. None: not known.
    pub fn set_backlog<F>(&self, read: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<u64>> + Send + 'static,
    {
        let first = self.backlog.set(Backlog(Box::new(move || Box::pin(read()))));
        debug_assert!(first.is_ok(), "set once");
    }

    /// Answers on this listener until the process ends. It is no task of the shutdown, because it answers during the drain.
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
                let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".into());
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
                    Some(Backlog(read)) => timeout(self.check_timeout, read()).await.ok().flatten(),
                    None => None,
                };
                (StatusCode::OK, media_type, metrics::text(backlog))
            }
            _ => {
                let text = "not found; use /healthz, /readyz or /metrics\n";
                (StatusCode::NOT_FOUND, PLAIN, text.into())
            }
        };
        response(status, media_type, text)
    }

    /// Status and text of `/readyz`. The text has a line for each check: `[+]` if it passed, `[-]` with the reason if it failed.
    async fn readiness(&self) -> (StatusCode, String) {
        let shutdown = match self.shutdown.is_announced() {
            true => Err("shutting down".to_owned()),
            false => Ok(()),
        };
        let mut results = vec![("shutdown", shutdown)];
        match self.checks.get() {
            Some(checks) => results.extend(join_all(checks.iter().map(|check| check.result(self.check_timeout))).await),
            None => results.push(("start", Err("the roles are starting".to_owned()))),
        }
        let is_ready = results.iter().all(|(_, result)| result.is_ok());
        let lines = results.into_iter().map(|(name, result)| match result {
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

fn response(status: StatusCode, media_type: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<B> Service<Request<B>> for Monitoring {
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

    async fn get(monitoring: &Monitoring, path: &str) -> (StatusCode, String) {
        let answer = monitoring.answer(&Method::GET, path).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_each_check() {
        let shutdown = Shutdown::new();
        let monitoring = Monitoring::new(&shutdown);
        let (status, text) = get(&monitoring, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("[-]start failed: the roles are starting\n"), "{text}");
        assert_eq!(get(&monitoring, "/healthz").await.0, StatusCode::OK);

        monitoring.started(vec![Check::new("lease", || async { Ok(()) })]);
        let (status, text) = get(&monitoring, "/readyz").await;
        assert_eq!(
            (status, &*text),
            (StatusCode::OK, "[+]shutdown ok\n[+]lease ok\nready\n")
        );

        shutdown.begin();
        let (status, text) = get(&monitoring, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            text.starts_with("[-]shutdown failed: shutting down\n[+]lease ok\n"),
            "{text}"
        );
        assert_eq!(get(&monitoring, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn unanswered_check_fails_in_time() {
        let monitoring = Monitoring {
            check_timeout: Duration::from_millis(10),
            ..Monitoring::new(&Shutdown::new())
        };
        monitoring.started(vec![
            Check::new("transport", std::future::pending),
            Check::new("io-node", || async { Err("not joined".to_owned()) }),
        ]);
        let (status, text) = get(&monitoring, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let expected = "[+]shutdown ok\n[-]transport failed: no answer within 10 ms\n\
                        [-]io-node failed: not joined\nnot ready\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn metrics_have_reasons_as_labels() {
        metrics::TOKENS_REFUSED.increment();
        let (status, text) = get(&Monitoring::new(&Shutdown::new()), "/metrics").await;
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
        assert!(!text.contains("plugnode_backlog"), "the backlog is not known");
        let monitoring = Monitoring::new(&Shutdown::new());
        monitoring.set_backlog(|| async { Some(7) });
        assert!(get(&monitoring, "/metrics").await.1.contains("plugnode_backlog 7\n"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let monitoring = Monitoring::new(&Shutdown::new());
        assert_eq!(get(&monitoring, "/").await.0, StatusCode::NOT_FOUND);
        let answer = monitoring.answer(&Method::POST, "/metrics").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
