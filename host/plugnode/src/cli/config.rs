//! `plugnode config`: checks a configuration, or prints its values with their origins.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use super::build_command::BuildCommand;
use super::cluster::{self, DEFAULT_CONFIG};
use super::{log, runtime};
use plugnode_server::api::KeyRing;
use plugnode_server::config::{Build, Config, ConfigError, Role, ValueSources, Webhook};
use plugnode_server::roles::io_node::check_keys;

/// Replaces secrets in the output.
const HIDDEN: &str = "(secret)";

/// Arguments of `plugnode config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// Subcommands of `plugnode config`.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration, and report problems with file and line
    Check(ConfigSource),
    /// Print each key that has a value, with the value and its origin; secrets are hidden
    Show {
        /// Config file [default: plugnode.toml, if it exists]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Selects the config file. The environment applies too.
#[derive(Debug, clap::Args)]
pub struct ConfigSource {
    /// Config file; docs/configuration.md explains every key
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Runs the subcommand.
pub(super) fn config(args: &ConfigArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    match &args.verb {
        ConfigVerb::Check(source) => {
            let (config, _) = source.load()?;
            check_before_use(&config, &source.config)?;
            runtime::block_on(check_keys_and_certificates(&config))?;
            writeln!(out, "{} can be used", source.config.display())?;
        }
        ConfigVerb::Show { config } => {
            let (config, sources, problems) = shown(config.as_ref())?;
            write!(out, "{}", page(&config, &sources)?)?;
            problems?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration to show, and its problems. Without a file, it is that of the environment and the defaults, which lacks an app.
fn shown(file: Option<&PathBuf>) -> Result<(Config, ValueSources, Result<(), ConfigError>)> {
    let default = PathBuf::from(DEFAULT_CONFIG);
    let file = file.or(Some(&default).filter(|file| file.exists()));
    if let Some(file) = file {
        cluster::require_config(file)?;
    }
    let (config, sources) = Config::read(file.map(PathBuf::as_path), runtime::variables())?;
    let problems = file.map_or(Ok(()), |_| config.check(&sources));
    Ok((config, sources, problems))
}

impl ConfigSource {
    fn load(&self) -> Result<(Config, ValueSources)> {
        cluster::require_config(&self.config)?;
        Ok(Config::load_with_sources(
            Some(&self.config),
            runtime::variables(),
            |_| {},
        )?)
    }
}

/// Checks what the verbs check before they use the configuration of a file: the log filter, and `[build]`.
fn check_before_use(config: &Config, file: &Path) -> Result<()> {
    log::check_variable()?;
    if config.build != Build::default() {
        let folder = file.parent().unwrap_or(Path::new(""));
        BuildCommand::new(config.build.clone(), folder, file)?;
    }
    Ok(())
}

/// Checks the certificates and keys of a configuration.
///
/// # Errors
/// When one cannot be used.
pub(super) async fn check_keys_and_certificates(config: &Config) -> Result<()> {
    config.http.read_tls()?;
    KeyRing::read(&config.api)?;
    let tokens = &config.io_node.token;
    if config.has(Role::IoNode) && tokens.has_key() {
        check_keys(tokens).await.context("[io-node.token]")?;
    }
    if config.has(Role::AppNode) {
        Webhook::read_all(&config.webhooks)?;
    }
    Ok(())
}

/// Formats all keys as TOML, each with its origin in a comment.
fn page(config: &Config, sources: &ValueSources) -> Result<String> {
    let Value::Table(mut table) = Value::try_from(config).context("cannot print the configuration")? else {
        bail!("cannot print the configuration");
    };
    hide_secrets(&mut table);
    let mut page = String::new();
    write_table(&mut page, &table, &mut Vec::new(), "", sources);
    Ok(page.trim_start().to_owned())
}

/// Hides secrets: those in the Redis URL and those of webhooks, and all `config` of apps, which may be keys of services.
fn hide_secrets(table: &mut Table) {
    let url = table
        .get_mut("transport")
        .and_then(|transport| transport.get_mut("url"));
    if let Some(Value::String(url)) = url {
        *url = without_secrets(url);
    }
    let webhooks = table.get_mut("webhook").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten() {
        if let Some(Value::String(url)) = webhook.get_mut("url") {
            *url = without_secrets(url);
        }
    }
    let apps = table.get_mut("app").and_then(Value::as_array_mut);
    for app in apps.into_iter().flatten() {
        let values = app.get_mut("config").and_then(Value::as_table_mut);
        for (_, value) in values.into_iter().flatten() {
            *value = HIDDEN.into();
        }
    }
}

/// A URL without user, password and parameters.
fn without_secrets(url: &str) -> String {
    let (url, parameters) = match url.split_once('?') {
        Some((url, _)) => (url, format!("?{HIDDEN}")),
        None => (url, String::new()),
    };
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{HIDDEN}@{place}{parameters}"),
        _ => format!("{url}{parameters}"),
    }
}

/// Writes a table: values first, then nested tables, as TOML requires.
fn write_table(page: &mut String, table: &Table, path: &mut Vec<String>, head: &str, sources: &ValueSources) {
    let has_lists = path.is_empty() || *path == ["api"];
    let is_nested = |value: &Value| match value {
        Value::Table(_) => true,
        Value::Array(items) => items.iter().any(Value::is_table) && has_lists,
        _ => false,
    };
    let (nested, plain): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| is_nested(value));
    let has_own = !plain.is_empty() || nested.is_empty();
    if !head.is_empty() && has_own {
        let _ = writeln!(page, "\n{head}");
    }
    for (key, value) in plain {
        let source = at(path, key, |path| sources.of(path));
        let setting = format!("{key} = {value}");
        let _ = writeln!(page, "{setting:<48} # {}", source.as_deref().unwrap_or("default"));
    }
    for (key, value) in nested {
        path.push(key.clone());
        match value {
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    let Value::Table(item) = item else { continue };
                    let head = format!("[[{}]]", path.join("."));
                    path.push(i.to_string());
                    write_table(page, item, path, &head, sources);
                    path.pop();
                }
            }
            Value::Table(table) => {
                let names = path.iter().filter(|name| name.parse::<usize>().is_err());
                let names: Vec<_> = names.map(String::as_str).collect();
                write_table(page, table, path, &format!("[{}]", names.join(".")), sources);
            }
            _ => {}
        }
        path.pop();
    }
}

/// Calls `find` with the path of a key.
fn at<T>(path: &[String], key: &str, find: impl FnOnce(&[&str]) -> T) -> T {
    let names: Vec<&str> = path.iter().map(String::as_str).chain([key]).collect();
    find(&names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[http]
listen = "127.0.0.1:9000"

[transport]
url = "redis://user:hunter2@redis.example:6379/1"

[io-node.token]
secret = "hunter2hunter2hunter2hunter2hunter2"

[[api.key]]
name = "office"
key = "hunter2hunter2hunter2hunter2hunter2"
namespaces = ["*"]
permissions = ["publish"]

[[app]]
component = "chat.wasm"
config = { key = "hunter2" }
"#;

    #[test]
    fn page_shows_origins_and_hides_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugnode.toml");
        std::fs::write(&file, FILE).unwrap();
        let variables = [("PLUGNODE_LOG__LEVEL".to_owned(), "debug".to_owned())];
        let (config, sources) = Config::load_with_sources(Some(&file), variables, |_| {}).unwrap();
        let page = page(&config, &sources).unwrap();
        assert!(!page.contains("hunter2"), "{page}");
        let line = |key: &str| page.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        assert!(
            line("listen = \"127.0.0.1:9000\"").ends_with("plugnode.toml:3"),
            "{page}"
        );
        assert!(
            line("level = \"debug\"").ends_with("# variable PLUGNODE_LOG__LEVEL"),
            "{page}"
        );
        assert!(line("partitions = 64").ends_with("# default"), "{page}");
        assert!(
            line("url = \"redis://(secret)@redis.example:6379/1\"").ends_with("plugnode.toml:6"),
            "{page}"
        );
        // The output is valid TOML.
        toml::from_str::<Table>(&page).unwrap();
    }

    #[test]
    fn without_a_file_the_defaults_are_shown() {
        let (config, sources, problems) = shown(None).unwrap();
        problems.unwrap();
        let page = page(&config, &sources).unwrap();
        assert!(page.contains("listen = \"0.0.0.0:8080\""), "{page}");
        let missing = PathBuf::from("no/such.toml");
        let error = shown(Some(&missing)).err().unwrap().to_string();
        assert!(error.starts_with("there is no no/such.toml"), "{error}");
    }

    #[test]
    fn values_are_shown_despite_problems() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugnode.toml");
        std::fs::write(&file, FILE.replace("127.0.0.1:9000", "9000")).unwrap();
        let (config, _, problems) = shown(Some(&file)).unwrap();
        assert_eq!(config.http.listen, "9000");
        let problems = problems.unwrap_err().to_string();
        assert!(problems.contains("http.listen: `9000` is not a host"), "{problems}");
    }

    #[test]
    fn build_command_without_output_is_refused() {
        let mut config = Config::default();
        let file = Path::new("plugnode.toml");
        check_before_use(&config, file).unwrap();
        config.build.command = Some("make".into());
        let error = check_before_use(&config, file).unwrap_err().to_string();
        assert!(
            error.starts_with("plugnode.toml: [build] output: is missing; "),
            "{error}"
        );
    }

    #[test]
    fn hides_credentials_of_urls() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("redis://h", "redis://h"),
            ("redis://:p@h", "redis://(secret)@h"),
            ("redis://u:p@a@h:1,i:2/m", "redis://(secret)@h:1,i:2/m"),
            ("redis+sentinel://h/m?sentinel-user=u", "redis+sentinel://h/m?(secret)"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
