//! Reads what a component file is, what it imports and what it exports, without compiling it, and says why it could not
//! run here and what would help.

use wasmparser::{ComponentExternalKind, ComponentTypeRef, Parser, Payload};

use super::capability::{self, Package};
use super::load_error::LoadError;
use super::settings::Grants;

/// What every handler exports.
pub(super) const HANDLER: &str = "plugnode:app/handler";
/// What a handler may export besides.
pub(super) const LIFECYCLE: &str = "plugnode:app/lifecycle";
/// What a handler may export besides.
pub(super) const SNAPSHOT: &str = "plugnode:app/snapshot";
/// The package of the contract, and the version of it that is served.
pub(super) const CONTRACT: (&str, &str) = ("plugnode:app", "0.1.2");

/// Refuses what is not a handler, or asks for what it will not be given; and a runtime without a script to run.
pub(super) fn check(bytes: &[u8], has_script: bool, grants: &Grants) -> Result<(), LoadError> {
    let outline = Outline::of_handler(bytes)?;
    let is_runtime = outline.is_runtime();
    if is_runtime && !has_script {
        return Err(LoadError::NoScript);
    }
    outline
        .imports
        .iter()
        .try_for_each(|import| match check_import(import, grants) {
            // It may well never call it.
            Err(LoadError::NotGranted { .. }) if is_runtime => Ok(()),
            checked => checked,
        })
}

/// What to do about a component that names what is served, and expects something else behind the name.
pub(super) fn remedy_for_mismatch(bytes: &[u8]) -> String {
    let newer = Outline::read(bytes).ok().and_then(|outline| {
        outline.imports.into_iter().chain(outline.exports).find(|import| {
            let Some(name) = Name::parse(import) else { return false };
            packages().any(|package| package.name == name.package && is_newer(name.version, package.version))
        })
    });
    match newer {
        Some(import) => format!("it was built for {import}, which is newer than this host: update the host"),
        None => "build it again against the interfaces of this host".to_owned(),
    }
}

/// The names at the outermost level of a component.
#[derive(Debug, Clone)]
pub struct Outline {
    /// What it asks for.
    pub imports: Vec<String>,
    /// What it gives.
    pub exports: Vec<String>,
}

impl Outline {
    /// Reads those of a handler, and refuses what is none, whatever it might be granted.
    pub fn of_handler(bytes: &[u8]) -> Result<Self, LoadError> {
        check_header(bytes)?;
        let outline = Self::read(bytes)?;
        check_exports(&outline.exports)?;
        Ok(outline)
    }

    /// Reads them. Whether it could run here is another matter.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::parse(bytes).map_err(|error| LoadError::Invalid {
            cause: error.to_string(),
        })
    }

    /// Whether it runs a script that comes with it.
    pub fn is_runtime(&self) -> bool {
        let mut imports = self.imports.iter().filter_map(|import| Name::parse(import));
        imports.any(|name| name.full == capability::SOURCE)
    }

    fn parse(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut outline = Self {
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if depth > 0 => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import?;
                        // A type is a matter of the other imports, and nothing that a host would have to serve.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            outline.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export?;
                        if export.kind != ComponentExternalKind::Type {
                            outline.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    const MODULE: &[u8] = &[1, 0, 0, 0];
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        return Err(LoadError::NotWasm {
            found: describe(bytes).to_owned(),
        });
    };
    if version.starts_with(MODULE) {
        return Err(LoadError::CoreModule);
    }
    Ok(())
}

fn describe(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(") {
        return "this is WebAssembly text, which wasm-tools parse turns into a binary";
    }
    if bytes.starts_with(b"\x7fELF") {
        return "this is a native binary";
    }
    if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() {
        "this is text"
    } else {
        "its first bytes are others"
    }
}

fn check_exports(exports: &[String]) -> Result<(), LoadError> {
    let (package, served) = CONTRACT;
    let names: Vec<_> = exports.iter().filter_map(|export| Name::parse(export)).collect();
    // What else it exports is not called here, whoever it is for.
    let ours = |name: &&Name<'_>| [HANDLER, LIFECYCLE, SNAPSHOT].contains(&name.full);
    let other = |name: &&Name<'_>| !is_compatible(name.version, served);
    if let Some(name) = names.iter().filter(ours).find(other) {
        return Err(LoadError::OtherVersion {
            verb: "exports",
            found: format!("{}@{}", name.full, name.version),
            package,
            served,
            remedy: remedy_for_version(package, served),
        });
    }
    if names.iter().any(|name| name.full == HANDLER) {
        return Ok(());
    }
    Err(LoadError::NoHandler {
        wanted: format!("{HANDLER}@{served}"),
        exports: if exports.is_empty() {
            "nothing".to_owned()
        } else {
            exports.join(", ")
        },
    })
}

fn check_import(import: &str, grants: &Grants) -> Result<(), LoadError> {
    let unknown = || LoadError::UnknownImport {
        import: import.to_owned(),
        served: served_packages(),
    };
    let name = Name::parse(import).ok_or_else(unknown)?;
    let of_this_name = |package: &&Package| package.name == name.package;
    let Some(package) = packages().find(of_this_name) else {
        return Err(unknown());
    };
    if !packages()
        .filter(of_this_name)
        .any(|package| is_compatible(name.version, package.version))
    {
        return Err(LoadError::OtherVersion {
            verb: "imports",
            found: import.to_owned(),
            package: package.name,
            served: package.version,
            remedy: remedy_for_version(package.name, package.version),
        });
    }
    let serves = |package: &Package| package.name == name.package && package.interfaces.contains(&name.interface);
    let capability = capability::ALL
        .iter()
        .find(|capability| capability.serves.iter().any(serves))
        .ok_or_else(|| match is_newer(name.version, package.version) {
            true => LoadError::OtherVersion {
                verb: "imports",
                found: import.to_owned(),
                package: package.name,
                served: package.version,
                remedy: "it needs something newer, so update the host".to_owned(),
            },
            false => unknown(),
        })?;
    match &capability.grant {
        Some(grant) if !(grant.is_given)(grants) => Err(LoadError::NotGranted {
            import: import.to_owned(),
            remedy: grant.remedy,
        }),
        _ => Ok(()),
    }
}

fn packages() -> impl Iterator<Item = &'static Package> {
    capability::ALL.iter().flat_map(|capability| capability.serves)
}

fn served_packages() -> String {
    let mut served = Vec::new();
    for Package { name, version, .. } in packages() {
        let package = format!("{name}@{version}");
        if !served.contains(&package) {
            served.push(package);
        }
    }
    served.join(", ")
}

fn remedy_for_version(package: &str, served: &str) -> String {
    if package == CONTRACT.0 {
        let track = track(served).unwrap_or(served);
        return format!("rebuild the handler with plugnode-sdk {track}, or update the host");
    }
    format!("build the handler against {package}@{served}, or update the host")
}

/// The parts of an interface's name, as in `wasi:cli/stdout@0.2.0`.
struct Name<'a> {
    full: &'a str,
    package: &'a str,
    interface: &'a str,
    version: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (full, version) = name.split_once('@')?;
        let (package, interface) = full.split_once('/')?;
        Some(Self {
            full,
            package,
            interface,
            version,
        })
    }
}

/// Whether a component made for one version can be given the other: by the rules that the linker goes by.
fn is_compatible(wanted: &str, served: &str) -> bool {
    wanted == served || track(wanted).is_some_and(|wanted| track(served) == Some(wanted))
}

/// The part of a version that compatible versions share: `0.2` of `0.2.12`. None when nothing else is compatible.
fn track(version: &str) -> Option<&str> {
    let (core, _build) = version.split_once('+').unwrap_or((version, ""));
    if core.contains('-') {
        return None;
    }
    let (major, rest) = core.split_once('.')?;
    let (minor, _patch) = rest.split_once('.')?;
    match (major, minor) {
        ("0", "0") => None,
        ("0", minor) => Some(&core[..2 + minor.len()]),
        (major, _) => Some(&core[..major.len()]),
    }
}

/// Whether one version is compatible with the other and has a higher last number.
fn is_newer(wanted: &str, served: &str) -> bool {
    let patch = |version: &str| version.rsplit('.').next().and_then(|patch| patch.parse::<u64>().ok());
    wanted != served && is_compatible(wanted, served) && patch(wanted) > patch(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compatible_as_semver_says() {
        assert!(is_compatible("0.2.0", "0.2.12"));
        assert!(is_compatible("0.1.9", "0.1.0"));
        assert!(is_compatible("1.4.0", "1.0.0"));
        assert!(is_compatible("0.2.0-draft", "0.2.0-draft"));
        assert!(!is_compatible("0.2.0-draft", "0.2.0"));
        assert!(!is_compatible("0.2.0", "0.1.0"));
        assert!(!is_compatible("0.0.2", "0.0.1"));
        assert!(!is_compatible("1.0.0", "0.1.0"));
        assert!(is_newer("0.1.1", "0.1.0"));
        assert!(!is_newer("0.1.0", "0.1.0"));
        assert!(!is_newer("0.2.3", "0.2.12"));
    }
}
