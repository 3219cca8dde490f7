//! Why a request is refused, as RFC 9457 has it: a JSON object that names the field and the remedy.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use plugnode_process::metrics::{self, Counter};

/// A refused request.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) body: Box<ProblemBody>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    counter: &'static Counter,
}

/// The body of a refused request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemBody {
    /// Identifies the kind of problem, such as `urn:plugnode:api:invalid`.
    pub(super) r#type: String,
    /// The kind of problem, for people.
    pub(super) title: &'static str,
    /// The status of the response.
    pub(super) status: u16,
    /// What is wrong with this request, and what to do.
    pub(super) detail: String,
    /// The field of the body or the header that is wrong, such as `[2].clients[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &str,
        title: &'static str,
        detail: impl Into<String>,
        counter: &'static Counter,
    ) -> Self {
        Self {
            status,
            body: Box::new(ProblemBody {
                r#type: format!("urn:plugnode:api:{kind}"),
                title,
                status: status.as_u16(),
                detail: detail.into(),
                field: None,
            }),
            retry_after: None,
            allow: None,
            counter,
        }
    }

    /// Names the field that is wrong.
    pub(super) fn of_field(mut self, field: impl Into<String>) -> Self {
        self.body.field = Some(field.into()).filter(|field| !field.is_empty() && field != ".");
        self
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send a key of the configuration as `Authorization: Bearer KEY`";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "No valid key",
            detail,
            &metrics::API_KEYS_REFUSED,
        )
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The key does not permit this",
            detail,
            &metrics::API_FORBIDDEN,
        )
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            detail,
            &metrics::API_INVALID,
        )
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("use {allow}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self {
            allow: Some(allow),
            ..Self::new(
                status,
                "method-not-allowed",
                "Method not allowed",
                detail,
                &metrics::API_INVALID,
            )
        }
    }

    pub(super) fn not_acceptable() -> Self {
        let detail = "accept application/json or application/msgpack";
        let status = StatusCode::NOT_ACCEPTABLE;
        Self::new(
            status,
            "not-acceptable",
            "No acceptable media type",
            detail,
            &metrics::API_INVALID,
        )
        .of_field("Accept")
    }

    pub(super) fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(
            status,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
            &metrics::API_INVALID,
        )
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The request is too large",
            detail,
            &metrics::API_INVALID,
        )
    }

    pub(super) fn body_timeout() -> Self {
        let detail = "the body did not arrive in time; send it faster, or raise [http] body-timeout-ms";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body did not arrive in time",
            detail,
            &metrics::API_INVALID,
        )
    }

    /// The body is not JSON or MessagePack.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "The body cannot be parsed",
            detail,
            &metrics::API_INVALID,
        )
    }

    /// The body does not have the right content.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(
            status,
            "invalid",
            "The request is invalid",
            detail,
            &metrics::API_INVALID,
        )
    }

    pub(super) fn key_reused() -> Self {
        let detail = "another request was made with this key within a day; use a new key for a new request";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(
            status,
            "key-reused",
            "The idempotency key was used before",
            detail,
            &metrics::API_INVALID,
        )
        .of_field("Idempotency-Key")
    }

    pub(super) fn too_fast(wait: std::time::Duration) -> Self {
        let detail = "this key makes calls faster than its calls-per-second; send them in batches, or raise it";
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            retry_after: Some(wait.as_secs() + 1),
            ..Self::new(
                status,
                "too-fast",
                "Too many calls",
                detail,
                &metrics::API_RATE_EXCEEDED,
            )
        }
    }

    /// The call cannot be taken at present.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            retry_after: Some(1),
            ..Self::new(
                status,
                "unavailable",
                "Not available at present",
                detail,
                &metrics::API_OVERLOADED,
            )
        }
    }

    pub(super) fn handler_failed(detail: impl Into<String>) -> Self {
        let status = StatusCode::BAD_GATEWAY;
        Self::new(
            status,
            "handler-failed",
            "The handler failed",
            detail,
            &metrics::API_OVERLOADED,
        )
    }

    pub(super) fn timeout(detail: impl Into<String>) -> Self {
        let status = StatusCode::GATEWAY_TIMEOUT;
        Self::new(status, "timeout", "No answer in time", detail, &metrics::API_OVERLOADED)
    }

    /// The response. It counts the problem.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        self.counter.increment();
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
