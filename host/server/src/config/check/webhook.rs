//! Validates `[[webhook]]`.

use std::collections::HashSet;
use std::time::Duration;

use super::Check;
use crate::config::{Config, Webhook};
use crate::roles::app_node::SigningSecret;

/// An attempt delays the return of its partition by no more than this.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_CONCURRENCY: usize = 256;

impl Check<'_> {
    pub(super) fn webhooks(&mut self, config: &Config) {
        let mut seen = HashSet::new();
        for (i, webhook) in config.webhooks.iter().enumerate() {
            let index = i.to_string();
            self.webhook(webhook, &index);
            let problem = format!("`{}` is the name of another webhook", webhook.name);
            let is_new = webhook.name.is_empty() || seen.insert(&webhook.name);
            self.require(is_new, &["webhook", &index, "name"], &problem);
        }
    }

    fn webhook(&mut self, webhook: &Webhook, index: &str) {
        let name = &webhook.name;
        let problem = "is missing; set it to letters, digits, `-`, `_` and `.`";
        self.require(!name.is_empty(), &["webhook", index, "name"], problem);
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let problem = format!("`{name}` is not a name; letters, digits, `-`, `_` and `.` are, up to 64");
        self.require(
            name.len() <= 64 && name.chars().all(fits),
            &["webhook", index, "name"],
            &problem,
        );
        // The URL may contain a token, so the error does not repeat it.
        let uri = webhook.url.parse::<http::Uri>().ok();
        let is_url = uri.as_ref().is_some_and(|uri| {
            let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            matches!(uri.scheme_str(), Some("http" | "https")) && !authority.is_empty() && !authority.contains('@')
        });
        let problem = "is not a URL such as https://crm.internal/plugnode; it holds no user and no password";
        self.require(is_url, &["webhook", index, "url"], problem);
        let is_https = uri.is_none_or(|uri| uri.scheme_str() == Some("https"));
        let problem = "is for a url that begins with https://";
        self.require(webhook.ca.is_none() || is_https, &["webhook", index, "ca"], problem);
        self.file(&["webhook", index, "ca"], &webhook.ca);
        self.webhook_secret(webhook, index);
        let problem = "names no event, and `kinds` no message; there are connection, disconnect and dead-letter";
        let has_topics = !webhook.events.is_empty() || !webhook.kinds.is_empty();
        self.require(has_topics, &["webhook", index, "events"], problem);
        for (i, namespace) in webhook.namespaces.iter().enumerate() {
            let path = ["webhook", index, "namespaces", &i.to_string()];
            let problem = format!("`{namespace}` is not a namespace; one begins with `/`");
            self.require(namespace.starts_with('/'), &path, &problem);
        }
        let fits = !webhook.timeout.is_zero() && webhook.timeout <= LONGEST_TIMEOUT;
        let problem = format!("must be 1 to {}", LONGEST_TIMEOUT.as_millis());
        self.require(fits, &["webhook", index, "timeout-ms"], &problem);
        self.nonzero(&["webhook", index], [("attempts", webhook.attempts == 0)]);
        let problem = format!("must be 1 to {MAX_CONCURRENCY}");
        let fits = (1..=MAX_CONCURRENCY).contains(&webhook.concurrency);
        self.require(fits, &["webhook", index, "concurrency"], &problem);
    }

    fn webhook_secret(&mut self, webhook: &Webhook, index: &str) {
        let path = ["webhook", index, "secret"];
        match (&webhook.secret, &webhook.secret_file) {
            (None, None) => self.refuse(&path, "is missing; name it, or secret-file"),
            (Some(secret), _) => {
                if let Err(problem) = SigningSecret::parse(secret.expose()) {
                    self.refuse(&path, problem.to_string());
                }
            }
            (None, Some(_)) => {}
        }
        self.file(&["webhook", index, "secret-file"], &webhook.secret_file);
    }
}
