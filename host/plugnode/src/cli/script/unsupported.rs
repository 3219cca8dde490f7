//! Modules that programs for Node import and that cannot work in a component: a build names them, and what to do instead.

use super::syntax::SourceError;

/// Names of modules, and what to do instead.
type Remedy = (&'static [&'static str], &'static str);

const REMEDIES: [Remedy; 7] = [
    (
        &["fs", "fs/promises"],
        "a component has no files; import data as a module, keep it in the key-value store (kv of the module plugnode), and leave pages to \
         frontend.static-dir",
    ),
    (
        &["net", "tls", "dgram", "dns", "http2"],
        "a component opens no sockets; call other services with fetch, and grant their hosts by grants.http",
    ),
    (
        &["child_process", "cluster", "worker_threads"],
        "a component starts no processes and threads; set `instances` of the [[app]], and run more nodes",
    ),
    (
        &[
            "redis",
            "ioredis",
            "pg",
            "mysql",
            "mysql2",
            "mongodb",
            "mongoose",
            "sqlite3",
            "better-sqlite3",
        ],
        "drivers of databases need sockets or files; keep data in the key-value store (kv and state of the module plugnode), or call a \
         service with fetch",
    ),
    (
        &[
            "@socket.io/redis-adapter",
            "@socket.io/redis-streams-adapter",
            "@socket.io/cluster-adapter",
            "@socket.io/mongo-adapter",
            "@socket.io/postgres-adapter",
            "@socket.io/sticky",
            "socket.io-redis",
            "socket.io-adapter",
        ],
        "remove it; the nodes of plugnode share clients and rooms by themselves, over transport.url",
    ),
    (
        &["@socket.io/admin-ui"],
        "remove it; plugnode status shows clients and releases, and [admin] listen serves metrics",
    ),
    (
        &["express-session", "cookie-session", "passport", "connect-redis"],
        "no request passes through express here; read the cookie in socket.handshake.headers in io.use, or check a token by [io-node.token]",
    ),
];

/// An error for each import that cannot work. `imports` are the places and names of the imports of `text`.
pub(super) fn find<'a>(name: &str, text: &str, imports: impl Iterator<Item = (usize, &'a str)>) -> Vec<SourceError> {
    let mut imports = imports.collect::<Vec<_>>();
    imports.sort_unstable();
    let errors = imports.into_iter().filter_map(|(at, imported)| {
        let (before, line) = (&text[..at], text[..at].rsplit('\n').next().unwrap_or_default());
        let is_comment = before.rfind("/*") > before.rfind("*/");
        if is_comment || line.trim_start().starts_with("import type ") {
            return None;
        }
        let remedy = remedy_of(imported)?;
        Some(SourceError {
            file: name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            message: format!("{imported:?} cannot be used in a component: {remedy}"),
        })
    });
    errors.collect()
}

/// The errors of esbuild, with advice that fits plugnode in place of esbuild's own, about options that only esbuild has.
pub(super) fn explain(errors: &str) -> String {
    // Installed without its install script, esbuild runs by way of Node, which adds a stack trace of its own.
    let errors = errors.split("\nnode:child_process:").next().unwrap_or(errors);
    let lines = errors.lines().map(|line| {
        let (indent, advice) = line.split_at(line.len() - line.trim_start().len());
        let Some(name) = advice.split('"').nth(1) else { return line.to_owned() };
        let is_of_node = advice.starts_with("The package ") && advice.contains("is built into node");
        if is_of_node {
            let remedy = remedy_of(name).unwrap_or(
                "plugnode's runtime does not have this module of Node; use a package that runs in browsers too, or none for this purpose",
            );
            return format!("{indent}{name:?} cannot be used in a component: {remedy}");
        }
        if advice.starts_with("You can mark the path ") {
            return format!("{indent}If {name:?} is a package, install it: npm install {name}");
        }
        line.to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What to do instead of importing a module, if it is known.
fn remedy_of(name: &str) -> Option<&'static str> {
    let bare = name.strip_prefix("node:").unwrap_or(name);
    let (_, remedy) = REMEDIES.iter().find(|(names, _)| names.contains(&bare))?;
    Some(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::script::imports;

    #[test]
    fn finds_imports_that_cannot_work() {
        let text = "import { Server } from \"socket.io\";\nconst fs = require('node:fs');\nimport { createClient } from \"redis\";\n";
        let errors = find("app.js", text, imports(text));
        assert_eq!((errors[0].line, errors[0].column, errors[1].line), (2, 12, 3));
        assert!(errors[0].message.contains("\"node:fs\"") && errors[0].message.contains("frontend.static-dir"));
        for text in [
            "import type { Redis } from \"ioredis\";",
            "/*\n const fs = require('fs');\n*/",
            "// require('fs')",
            "import { readFile } from \"./fs\";",
        ] {
            assert_eq!(find("app.ts", text, imports(text)), [], "{text}");
        }
    }
    #[test]
    fn advice_of_esbuild_is_replaced() {
        let errors = "  The package \"node:net\" wasn't found on the file system but is built into node. Are you trying to bundle for node?\n  \
                      You can mark the path \"left-pad\" as external to exclude it from the bundle\nother \"text\"";
        let explained = explain(errors);
        let lines: Vec<_> = explained.lines().collect();
        assert!(
            lines[0].starts_with("  \"node:net\" cannot be used in a component: "),
            "{explained}"
        );
        assert!(lines[0].contains("grants.http"), "{explained}");
        assert_eq!(
            lines[1],
            "  If \"left-pad\" is a package, install it: npm install left-pad"
        );
        assert_eq!(lines[2], "other \"text\"");
    }
}
