//! Tests of the example file, the precedence of sources, and the error messages.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

const EXAMPLE: &str = include_str!("../../plugnode.example.toml");

/// A folder with a config file, a component and a folder of pages.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugnode.toml"), config).unwrap();
        std::fs::write(folder.path().join("chat.wasm"), "").unwrap();
        std::fs::create_dir(folder.path().join("public")).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("plugnode.toml")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Config::load(Some(&self.file()), variables, |_| ())
    }

    /// The error message, without the path of the folder.
    fn problems(&self, variables: &[(&str, &str)]) -> String {
        let error = self.load(variables).expect_err("this configuration should be refused");
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

const APP: &str = "[[app]]\ncomponent = \"chat.wasm\"\n";

fn uncommented() -> String {
    let off = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|begin: char| begin.is_alphabetic() || begin == '['))
            .map(String::from)
    };
    EXAMPLE
        .lines()
        .map(|line| off(line).unwrap_or_else(|| line.into()) + "\n")
        .collect()
}

#[test]
fn example_is_valid_and_has_the_defaults() {
    let folder = Folder::with(EXAMPLE);
    let mut config = folder.load(&[]).unwrap();
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.apps[0].component, folder.0.path().join("chat.wasm"));
    config.apps[0].component = PathBuf::new();
    assert_eq!(config.frontend.static_dir, folder.0.path().join("public"));
    config.frontend.static_dir = "public".into();
    assert_eq!(
        config,
        Config {
            apps: vec![App::default()],
            ..Config::default()
        }
    );
    let folder = Folder::with(&uncommented());
    for file in [
        "ca.pem",
        "plugnode.pem",
        "plugnode.key",
        "token.secret",
        "office.secret",
        "token.pem",
        "token-ca.pem",
        "https.pem",
        "https.key",
        "webhook-ca.pem",
        "webhook.secret",
    ] {
        std::fs::write(folder.0.path().join(file), "").unwrap();
    }
    // Emitters need Redis.
    folder.load(&[("PLUGNODE_TRANSPORT__URL", "redis://h")]).unwrap();
}

#[test]
fn example_has_every_key_and_no_other() {
    fn keys(value: &serde_json::Value, path: String, found: &mut BTreeSet<String>) {
        let free = path.ends_with(".config") || path.ends_with(".attributes");
        match value {
            serde_json::Value::Object(table) if !free => {
                for (key, value) in table {
                    keys(value, format!("{path}.{key}"), found);
                }
            }
            _ => _ = found.insert(path),
        }
    }
    let keys_of = |mut json: serde_json::Value| {
        json["app"] = json["app"][0].take();
        json["webhook"] = json["webhook"][0].take();
        json["api"]["key"] = json["api"]["key"][0].take();
        let mut found = BTreeSet::new();
        keys(&json, String::new(), &mut found);
        found
    };
    let known = keys_of(shape::shape());

    let example: toml::Table = uncommented().parse().unwrap();
    let documented = keys_of(serde_json::to_value(example).unwrap());

    assert_eq!(documented, known);
    assert!(known.len() > 35, "{known:?}");
}

#[test]
fn environment_wins_over_file_and_file_over_old_names() {
    let folder = Folder::with(&format!(
        "[http]\nlisten = \"127.0.0.1:1\"\n{APP}config = {{ Max_Users = \"3\" }}\n"
    ));
    let old = [
        ("HTTP_PORT", "2"),
        ("CLIENT_CONFIG_URL", "/where.js"),
        ("IO_SERVERS", r#"[{"host":"a","port":1},{"host":"::1","port":2}]"#),
    ];
    let config = folder.load(&old).unwrap();
    assert_eq!(config.http.listen, "127.0.0.1:1");
    assert_eq!(config.frontend.client_config_url, "/where.js");
    let servers: Vec<_> = config.frontend.io_servers.iter().map(IoServerUrl::to_string).collect();
    assert_eq!(servers, ["a:1", "[::1]:2"]);

    let own = [
        ("PLUGNODE_HTTP__LISTEN", "127.0.0.1:3"),
        ("PLUGNODE_IO_NODE__PING_INTERVAL_MS", "7"),
        ("PLUGNODE_IO_NODE__MAX_PAYLOAD", "2MiB"),
        ("PLUGNODE_IO_NODE__NAME", "12"),
        ("PLUGNODE_ROLES", "io-node, app-node"),
        ("PLUGNODE_FRONTEND__IO_SERVERS", "b:5,c:6"),
        ("PLUGNODE_APP__0__CONFIG__MAX_USERS", "9"),
        ("PLUGNODE_APP__0__LIMITS__TIME_MS", "50"),
        ("PLUGNODE_APP__0__GRANTS", r#"{ keyvalue = ["default"] }"#),
        ("PLUGNODE_APP__1__NAMESPACE", "/b"),
        ("PLUGNODE_APP__1__COMPONENT", "/bin/sh"),
        ("PLUGNODE_IO_NODE__ATTRIBUTES__PAGE", "query.page"),
        ("PLUGNODE_IO_NODE__ALLOWED_ORIGINS", "https://a.example,http://b:3000"),
        ("PLUGNODE_IO_NODE__EVENTS_PER_SECOND", "5"),
        ("PLUGNODE_IO_NODE__SOCKET_IO_2", "true"),
        ("PLUGNODE_IO_NODE__TOKEN__SECRET", "01234567890123456789012345678901"),
        ("PLUGNODE_IO_NODE__TOKEN__FROM", "header.Authorization"),
        ("PLUGNODE_IO_NODE__TOKEN__AUDIENCES", "chat,shop"),
        ("PLUGNODE_APP__0__ADMISSION", "true"),
        ("PLUGNODE_PORT", "tcp://10.0.0.1:80"),
        ("IO_SERVERS", "d:7"),
    ];
    let config = folder.load(&own).unwrap();
    assert_eq!(config.http.listen, "127.0.0.1:3");
    assert_eq!(config.io_node.engine.ping_interval.as_millis(), 7);
    assert_eq!(config.io_node.engine.max_payload, 2 * 1024 * 1024);
    assert_eq!(config.io_node.name.as_deref(), Some("12"));
    assert_eq!(config.roles, [Role::IoNode, Role::AppNode]);
    assert_eq!(config.frontend.io_servers.len(), 2);
    assert_eq!(config.apps[0].handler.config["Max_Users"], "9");
    assert_eq!(config.apps[0].handler.limits.time.as_millis(), 50);
    assert_eq!(config.apps[0].handler.grants.keyvalue, ["default"]);
    assert_eq!(config.apps[1].namespace, "/b");
    let io_node = &config.io_node;
    assert_eq!(io_node.attributes["page"], Field::Query("page".into()));
    assert_eq!(io_node.allowed_origins, ["https://a.example", "http://b:3000"]);
    assert_eq!(
        (io_node.events_per_second, io_node.per_address.connects_per_second),
        (Some(5), None)
    );
    assert!(io_node.engine.protocol_3 && config.apps[0].handler.admission);
    assert_eq!(io_node.token.from, Field::Header("authorization".into()));
    assert_eq!(io_node.token.audiences, ["chat", "shop"]);
    // The secret consists of digits, but is read as text.
    let secret = io_node.token.secret.as_ref().unwrap();
    assert_eq!(secret.expose(), "01234567890123456789012345678901");
}

#[test]
fn error_in_file_names_key_file_and_line() {
    for (config, expected) in [
        (
            "\n[http]\nlistn = \"x\"\n",
            "plugnode.toml:3: http.listn: unknown key `listn`; did you mean `listen`?",
        ),
        (
            "[io-node]\nmax-payload = \"1XB\"\n",
            "plugnode.toml:2: io-node.max-payload: is the text \"1XB\"",
        ),
        (
            "[io-node]\nmax-payload = \"99999999999TB\"\n",
            "plugnode.toml:2: io-node.max-payload: is more than 1PB",
        ),
        (
            "[http]\ntrusted-proxies = [\n\"10.0.0.0/8\",\n\"ten\"]\n",
            "plugnode.toml:4: http.trusted-proxies.1: `ten` is not a network such as \"10.0.0.0/8\", nor an address",
        ),
        (
            "[io-node]\ntransports = [\n\"polling\",\n\"pigeon\"]\n",
            "plugnode.toml:4: io-node.transports.1: `pigeon` is not one of `polling`, `websocket`",
        ),
        (
            "[io-node]\n\nping-intervall-ms = 3\n",
            "plugnode.toml:3: io-node.ping-intervall-ms: unknown key `ping-intervall-ms`; did you mean `ping-interval-ms`?",
        ),
        (
            "[transport]\nclient-timer = 3\n",
            "plugnode.toml:2: transport.client-timer: unknown key `client-timer`; did you mean `client-timers`?",
        ),
        (
            "[transport]\ntls-ca = 3\n",
            "plugnode.toml:2: transport.tls-ca: is the number 3",
        ),
        (
            "[io-node]\nmax-payload = \"5GB\"\n",
            "plugnode.toml:2: io-node.max-payload: must be 4GiB or less",
        ),
        (
            "[transport]\nbacklog-bytes = 9000000000000000000\n",
            "plugnode.toml:2: transport.backlog-bytes: is more than 1PB",
        ),
        (
            "[io-node]\nping-interval-ms = 9000000000000000000\n",
            "plugnode.toml:2: io-node.ping-interval-ms: is more than 100 years",
        ),
        (
            "[io-node]\npath = \"/healthz\"\n",
            "plugnode.toml:2: io-node.path: `/healthz` is the path of health checks; choose another",
        ),
        (
            "[io-node]\npath = \"/config.json\"\n",
            "plugnode.toml:2: io-node.path: `/config.json` is a path of frontend.client-config-url; choose another",
        ),
        (
            "[frontend]\nclient-config-url = \"/readyz\"\n",
            "plugnode.toml:2: frontend.client-config-url: `/readyz` is the path of health checks; choose another",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\ngrants = { keyvalue = [\"a\", \"plugnode:timers:/\"] }\n",
            "plugnode.toml:3: app.0.grants.keyvalue.1: `plugnode:timers:/` is reserved: names that begin with `plugnode:` are",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\ngrants = { http = [\"a.example\", \"https://b.example\"] }\n",
            "plugnode.toml:3: app.0.grants.http.1: `https://b.example` is not a host with or without a port, so no request would \
             match it; write `b.example`",
        ),
        (
            "[[app]]\nlimits = { memory = \"5GiB\" }\n",
            "plugnode.toml:2: app.0.limits.memory: must be 64KiB to 4GiB",
        ),
        (
            "[http]\nmax-connections = -1\n",
            "plugnode.toml:2: http.max-connections: is the number -1",
        ),
        (
            "roles = [\"frontend\", \"cook\"]\n",
            "plugnode.toml:1: roles.1: `cook` is not one of",
        ),
        ("[http\n", "plugnode.toml:1: "),
        (
            "[[app]]\nlimits = { memory = true }\n",
            "plugnode.toml:2: app.0.limits.memory: is true",
        ),
        (
            "[http]\nlisten = \"8080\"\n[[app]]\ncomponent=\"chat.wasm\"",
            "plugnode.toml:2: http.listen: `8080` is not a host and a port",
        ),
        (
            "[[app]]\ncomponent = \"chap.wasm\"\n",
            "plugnode.toml:2: app.0.component: there is no file chap.wasm; build it, such as by `plugnode build .`, or correct",
        ),
        (
            "[[webhook]]\nsecret-file = \"chat.wasm\"\n",
            "plugnode.toml:1: webhook.0.name: is missing; set it to letters",
        ),
        (
            "[[app]]\ninstances = 4\n",
            "plugnode.toml:1: app.0.component: is missing",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\ninstances = 65\n",
            "plugnode.toml:3: app.0.instances: must be 1 to 64",
        ),
        (
            "[frontend]\nstatic-dir = \"pages\"\n",
            "plugnode.toml:2: frontend.static-dir: there is no folder pages",
        ),
        (
            "[transport]\nurl = \"redis://:secret@h:1/x\"\n",
            "plugnode.toml:2: transport.url: what comes after the host is the number of a database, such as /0",
        ),
        (
            "[transport]\nurl = \"http://:secret@h\"\n",
            "plugnode.toml:2: transport.url: `http` is not a transport; use memory: or redis://, rediss://",
        ),
        (
            "[transport]\nprefix = \"a{b\"\n",
            "plugnode.toml:2: transport.prefix: must be a text without `{`, `}`",
        ),
        (
            "[transport]\nemitter = \"socket.io\"\n",
            "plugnode.toml:2: transport.emitter: needs Redis, where emitters publish; write its URL in [transport] url",
        ),
        (
            "[transport]\npartitions = 5000\n",
            "plugnode.toml:2: transport.partitions: must be 1 to 4096",
        ),
        (
            "[transport]\nshards = 65\n",
            "plugnode.toml:2: transport.shards: must be 1 or more, and no more than there are partitions",
        ),
        (
            "[transport]\nlease-ms = 100\n",
            "plugnode.toml:2: transport.lease-ms: must be 500 or more",
        ),
        (
            "[http]\nbody-timeout-ms = 0\n",
            "plugnode.toml:2: http.body-timeout-ms: must be 1 or more",
        ),
        (
            "[http]\nwrite-timeout-ms = 0\n",
            "plugnode.toml:2: http.write-timeout-ms: must be 1 or more",
        ),
        (
            "[http]\nmax-connections-per-address = 0\n",
            "plugnode.toml:2: http.max-connections-per-address: must be 1 or more; leave it out for half",
        ),
        (
            "[http]\ntls-key = \"chat.wasm\"\n",
            "plugnode.toml:2: http.tls-key: goes together with tls-cert; name both",
        ),
        (
            "[http]\ntls-key = \"chat.wasm\"\ntls-cert = \"no.pem\"\n",
            "plugnode.toml:3: http.tls-cert: there is no file no.pem",
        ),
        (
            "[transport]\ntls-cert = \"chat.wasm\"\n",
            "plugnode.toml:2: transport.tls-cert: goes together with tls-key; name both",
        ),
        (
            "[transport]\ntls-ca = \"ca.pem\"\n",
            "plugnode.toml:2: transport.tls-ca: there is no file ca.pem",
        ),
        (
            "roles = [\"io-node\"]\n",
            "plugnode.toml:1: roles: the transport `memory:` joins",
        ),
        ("\n", "plugnode.toml: app: there is no app to handle events"),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\n[[app]]\ncomponent = \"chat.wasm\"\nnamespace = \"/\"",
            "plugnode.toml:5: app.1.namespace: `/` is the namespace of app 0 already",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\nnamespace = \"/shop/{}\"",
            "plugnode.toml:3: app.0.namespace: the namespace \"/shop/{}\" is not a pattern",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\nnamespace = \"/a/{id}\"\n\
             [[app]]\ncomponent = \"chat.wasm\"\nnamespace = \"/a/{name}\"",
            "plugnode.toml:6: app.1.namespace: the namespaces \"/a/{name}\" and \"/a/{id}\" are ambiguous",
        ),
        (
            "[[app]]\nadmission-timeout-ms = 0\n",
            "plugnode.toml:2: app.0.admission-timeout-ms: must be 1 or more",
        ),
        (
            "[[app]]\n[app.presence]\nchannels = [\"room/*\", \"a*b\"]\n",
            "plugnode.toml:3: app.0.presence.channels.1: `a*b` is neither a channel nor",
        ),
        (
            "http = [\"127.0.0.1:8080\"]\n",
            "plugnode.toml:1: http: is a list, but must be a section",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\ngrants = [\"keyvalue\"]\n",
            "plugnode.toml:3: app.0.grants: is a list, but must be a section",
        ),
        (
            "[[app]]\ncomponent = \"chat.wasm\"\nconfig = [\"key\"]\n",
            "plugnode.toml:3: app.0.config: is a list, but must be a section",
        ),
        (
            "app = [[]]\n",
            "plugnode.toml:1: app.0: is a list, but must be a section",
        ),
        (
            "\n[webhook]\nname = \"crm\"\n",
            "plugnode.toml:2: webhook: is one section, but can occur several times; write [[webhook]]",
        ),
        (
            "[api.key]\nname = \"office\"\n",
            "plugnode.toml:1: api.key: is one section, but can occur several times; write [[api.key]]",
        ),
        (
            "[http]\ntrusted-proxies = { a = 1 }\n",
            "plugnode.toml:2: http.trusted-proxies: is a section, but must be a list",
        ),
        (
            "[http]\nlisten = \"h:1\"\nlisten = \"h:2\"\n",
            "plugnode.toml:3: the key `listen` occurs twice; delete one",
        ),
        (
            "[[app]]\n[app.presence]\nevents = true\n",
            "plugnode.toml:3: app.0.presence.events: has no effect without presence.channels",
        ),
    ] {
        let problems = Folder::with(config).problems(&[]);
        assert!(problems.contains(expected), "{problems}\nshould say\n{expected}");
        assert!(!problems.contains("secret"), "{problems}");
    }
    let missing = Config::load(Some(Path::new("no/such.toml")), [], |_| ()).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("no/such.toml: cannot read the config file: "),
        "{missing}"
    );
}

#[test]
fn error_in_environment_names_the_variable() {
    for (name, value, expected) in [
        (
            "PLUGNODE_HTTP__LISTN",
            "x",
            "variable PLUGNODE_HTTP__LISTN: http.listn: unknown key `listn`",
        ),
        ("PLUGNODE_HTTP__LISTN", "x", "; did you mean PLUGNODE_HTTP__LISTEN?"),
        (
            "PLUGNODE_HTTP__TRUSTED_PROXIES",
            "10.0.0.0/8,ten",
            "variable PLUGNODE_HTTP__TRUSTED_PROXIES: http.trusted-proxies: `ten` is not a network such as \"10.0.0.0/8\"",
        ),
        (
            "PLUGNODE_HTTP__MAX_CONNECTIONS",
            "many",
            "variable PLUGNODE_HTTP__MAX_CONNECTIONS: http.max-connections: is the text",
        ),
        (
            "PLUGNODE_IO_NODE__TOKEN",
            "[\"secret\"]",
            "variable PLUGNODE_IO_NODE__TOKEN: io-node.token: is a list, but must be a section",
        ),
        (
            "PLUGNODE_APP__0__GRANTS",
            "keyvalue",
            "variable PLUGNODE_APP__0__GRANTS: app.0.grants: is the text \"keyvalue\", but must be a section",
        ),
        (
            "PLUGNODE_APP__2__COMPONENT",
            "x",
            "variable PLUGNODE_APP__2__COMPONENT: app.2.component: there is no app 1",
        ),
        ("PLUGNODE_APP__X__COMPONENT", "x", "`x` is not the number of an app"),
        (
            "PLUGNODE_APP__0__COMPONENT",
            "gone.wasm",
            "variable PLUGNODE_APP__0__COMPONENT: app.0.component: there is no file gone.wasm",
        ),
        (
            "PLUGNODE_LOG__LEVEL",
            "loud",
            "variable PLUGNODE_LOG__LEVEL: log.level: `loud` is not one of",
        ),
        (
            "HTTP_PORT",
            "http",
            "variable HTTP_PORT: http.listen: `0.0.0.0:http` is not",
        ),
        ("IO_SERVERS", "nowhere", "variable IO_SERVERS: `nowhere` is not"),
        (
            "REDIS_HOST",
            "db,db",
            "variable REDIS_HOST: transport.url: several hosts need redis+sentinel:// or redis+cluster://",
        ),
    ] {
        let problems = Folder::with(APP).problems(&[(name, value)]);
        assert!(problems.contains(expected), "{problems}\nshould say\n{expected}");
    }
}

#[test]
fn unknown_variable_is_refused_with_the_nearest_setting() {
    let folder = Folder::with(APP);
    for (wrong, right) in [
        ("PLUGNODE_HTTP_LISTEN", "PLUGNODE_HTTP__LISTEN"),
        (
            "PLUGNODE_IO_NODE_PING_INTERVAL_MS",
            "PLUGNODE_IO_NODE__PING_INTERVAL_MS",
        ),
        ("PLUGNODE_TRANSPORT_ULR", "PLUGNODE_TRANSPORT__URL"),
        ("PLUGNODE_ADMIN_LISTEN", "PLUGNODE_ADMIN__LISTEN"),
        ("PLUGNODE_APP_0_COMPONENT", "PLUGNODE_APP__0__COMPONENT"),
        ("PLUGNODE_ROLE", "PLUGNODE_ROLES"),
        ("PLUGNODE_LOGLEVEL", "PLUGNODE_LOG__LEVEL"),
    ] {
        let expected = format!("variable {wrong}: is no setting; did you mean {right}?");
        let problems = folder.problems(&[(wrong, "x")]);
        assert!(problems.contains(&expected), "{problems}");
    }
    for foreign in [
        "PLUGNODE_PORT",
        "PLUGNODE_PORT_8080_TCP_ADDR",
        "PLUGNODE_SERVICE_HOST",
        "PLUGNODE_HTTP_SERVICE_PORT",
        "PLUGNODE_IO_NODE_PORT",
        "PLUGNODE_GUEST_CARGO",
        "PLUGNODE_CACHE",
    ] {
        let loaded = folder.load(&[(foreign, "tcp://10.0.0.1:8080")]);
        assert!(
            !loaded.is_err_and(|error| error.to_string().contains(foreign)),
            "{foreign}"
        );
    }
}

#[test]
fn admin_listener_needs_its_own_address() {
    let folder = Folder::with("[http]\nlisten = \"127.0.0.1:8080\"\n[admin]\nlisten = \"127.0.0.1:8080\"\n");
    assert!(
        folder
            .problems(&[])
            .contains("admin.listen: is the address of [http] listen already")
    );
    assert!(
        folder
            .problems(&[("PLUGNODE_ADMIN__LISTEN", "nowhere")])
            .contains("admin.listen: ")
    );
}

#[test]
fn command_line_wins_and_empty_cache_dir_disables_the_cache() {
    let variables = [("PLUGNODE_APP_NODE__CACHE_DIR".to_string(), String::new())];
    let config = Config::load(None, variables, |config| config.roles = vec![Role::Frontend]).unwrap();
    assert_eq!(config.roles, [Role::Frontend]);
    assert_eq!(config.app_node.cache_folder(), None);
}

#[test]
fn redis_url_comes_from_key_or_old_variables() {
    let folder = Folder::with(&format!("{APP}[transport]\ntls-ca = \"public/../chat.wasm\"\n"));
    let old = [
        ("REDIS_HOST", "::1"),
        ("REDIS_PORT", "7000"),
        ("REDIS_PASSWORD", "p/@:%?"),
        ("REDIS_DB", "2"),
    ];
    let config = folder.load(&old).unwrap();
    assert_eq!(config.transport.url, "redis://:p%2F%40%3A%25%3F@[::1]:7000/2");
    assert_eq!(
        config.transport.redis.tls.ca,
        Some(folder.0.path().join("public/../chat.wasm"))
    );

    let own = [
        ("PLUGNODE_TRANSPORT__URL", "rediss+cluster://u:p@a,b:1"),
        ("PLUGNODE_TRANSPORT__SHARDS", "8"),
        ("PLUGNODE_TRANSPORT__WAIT_AOF", "true"),
        ("PLUGNODE_ROLES", "io-node"),
    ];
    let config = folder.load(&own).unwrap();
    assert_eq!(config.transport.url, "rediss+cluster://u:p@a,b:1");
    assert_eq!(
        (config.transport.redis.shards, config.transport.redis.wait_aof),
        (8, true)
    );
}

#[test]
fn error_in_io_node_names_the_remedy() {
    for (config, expected) in [
        (
            "allowed-origins = [\"*\", \"example.com\"]",
            "plugnode.toml:2: io-node.allowed-origins.1: `example.com` is not an origin such as \"https://example.com\"",
        ),
        (
            "allowed-origins = [\"https://example.com/\"]",
            "`https://example.com/` is not an origin",
        ),
        (
            "allowed-origins = [\"https://*.example.com\"]",
            "`https://*.example.com` is not an origin",
        ),
        (
            "connects-per-second = 0",
            "plugnode.toml:2: io-node.connects-per-second: must be 1 or more; leave it out for no limit",
        ),
        ("max-clients-per-address = 0", "leave it out for no limit"),
        (
            "packets-per-second = 0",
            "io-node.packets-per-second: must be 1 or more",
        ),
        (
            "allowed-hosts = [\"a.example\", \"https://a.example\"]",
            "plugnode.toml:2: io-node.allowed-hosts.1: `https://a.example` is not a host such as \"chat.example.com\"",
        ),
        ("allowed-hosts = [\"*.\"]", "`*.` is not a host"),
        (
            "namespaces-per-connection = 0",
            "io-node.namespaces-per-connection: must be 1 or more",
        ),
        (
            "channels-per-client = 0",
            "io-node.channels-per-client: must be 1 or more",
        ),
        (
            "drain-ms = 10000",
            "plugnode.toml:2: io-node.drain-ms: must be less than shutdown.deadline-ms, 10000",
        ),
        (
            "parser = \"xml\"",
            "plugnode.toml:2: io-node.parser: `xml` is not one of `json`, `msgpack`",
        ),
        (
            "attributes = { user = \"cookie.user\" }",
            "plugnode.toml:2: io-node.attributes.user: `cookie.user` is not a field of the handshake, such as \"auth.user\"",
        ),
        ("attributes = { user = \"auth.a..b\" }", "`auth.a..b` is not a field"),
        ("attributes = { user = \"header.a b\" }", "`header.a b` is not a field"),
        (
            "attributes = { sub = \"auth.sub\" }\ntoken = { secret-file = \"chat.wasm\" }",
            "plugnode.toml:2: io-node.attributes.sub: `sub` is the attribute of a claim already, see io-node.token.claims",
        ),
        (
            "token = { required = true }",
            "plugnode.toml:2: io-node.token.required: has no effect without a key",
        ),
        (
            "token = { secret = \"hunter2\" }",
            "plugnode.toml:2: io-node.token.secret: must be 32 bytes or more, such as `openssl rand -base64 32` makes",
        ),
        (
            "token = { secret = 7777777 }",
            "plugnode.toml:2: io-node.token.secret: must be a text, in quotes",
        ),
        (
            "token = { public-key = \"key.pem\" }",
            "plugnode.toml:2: io-node.token.public-key: there is no file key.pem",
        ),
        (
            "token = { jwks = \"keys.json\" }",
            "io-node.token.jwks: there is no file keys.json",
        ),
        (
            "token = { jwks = \"ftp://keys.example.com/\" }",
            "io-node.token.jwks: is not a file, nor a URL such as https://",
        ),
        (
            "token = { jwks = \"https://me:hunter2@keys.example.com/\" }",
            "io-node.token.jwks: is not a file, nor a URL such as https://",
        ),
        (
            "token = { secret-file = \"chat.wasm\", algorithms = [\"RS256\"] }",
            "io-node.token.algorithms: lacks HS256, the algorithm of a secret",
        ),
        (
            "token = { secret-file = \"chat.wasm\", algorithms = [\"none\"] }",
            "io-node.token.algorithms.0: `none` is not one of `HS256`, `RS256`, `ES256`",
        ),
    ] {
        let problems = Folder::with(&format!("[io-node]\n{config}\n{APP}")).problems(&[]);
        assert!(problems.contains(expected), "{problems}\nshould say\n{expected}");
        assert!(
            !problems.contains("hunter2") && !problems.contains("7777777"),
            "{problems}"
        );
    }
    let token = Folder::with(APP).problems(&[("PLUGNODE_IO_NODE__TOKEN__ISSUERS", "me")]);
    assert!(token.starts_with("variable PLUGNODE_IO_NODE__TOKEN__ISSUERS: io-node.token.issuers: has no effect"));
}

#[test]
fn secret_is_never_printed() {
    let folder = Folder::with(APP);
    let variables = [(
        "PLUGNODE_IO_NODE__TOKEN__SECRET",
        "hunter2-hunter2-hunter2-hunter2-hunter2",
    )];
    let config = folder.load(&variables).unwrap();
    assert!(config.io_node.token.has_key());
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
}

mod arbitrary {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use plugnode_testing::arbitrary::{nearly_text, one_of, text};

    fn variable() -> impl Strategy<Value = (String, String)> {
        let name = nearly_text(one_of(&[
            "PLUGNODE_ROLES",
            "PLUGNODE_IO_NODE__MAX_PAYLOAD",
            "PLUGNODE_IO_NODE__ATTRIBUTES__USER",
            "PLUGNODE_TRANSPORT__URL",
            "PLUGNODE_APP__0__NAMESPACE",
            "PLUGNODE_APP__1__COMPONENT",
            "PLUGNODE_APP__99999999999__COMPONENT",
            "PLUGNODE_HTTP__LISTEN",
            "PORT",
        ]));
        let value = nearly_text(one_of(&[
            "8",
            "[\"a\", \"b\"]",
            "1MB",
            "frontend,io-node",
            "redis://h",
            "99999999999999999999TB",
        ]));
        (name, prop_oneof![3 => value, 1 => text()])
    }

    proptest! {
        // Fewer cases, because each writes a file.
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

        #[test]
        fn any_file_and_variables_are_accepted_or_refused_with_message(
            file in nearly_text(prop_oneof![Just(uncommented()), Just(APP.to_owned()), Just(EXAMPLE.to_owned())]),
            variables in vec(variable(), 0..4),
        ) {
            let folder = Folder::with(&file);
            let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
            if let Err(problems) = folder.load(&variables) {
                prop_assert!(!problems.to_string().is_empty());
            }
        }
    }
}
