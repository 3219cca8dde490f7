//! Inspects a component file before it is compiled: what it is, and what it imports and exports. Explains why it cannot run
//! here, and what to do.

use wasmparser::{ComponentExternalKind, ComponentTypeRef, Parser, Payload};

use crate::capability;
use crate::capability::definition::Package;
use crate::contract::{self, HANDLER, LIFECYCLE, SNAPSHOT};
use crate::load_error::LoadError;
use crate::settings::Grants;

/// Refuses a file that is not a handler or imports what it is not granted, and a script runtime without a script.
pub(crate) fn check(bytes: &[u8], has_script: bool, grants: &Grants) -> Result<(), LoadError> {
    let info = ComponentInfo::of_handler(bytes)?;
    let is_runtime = info.is_runtime();
    if is_runtime && !has_script {
        return Err(LoadError::NoScript);
    }
    info.imports
        .iter()
        .try_for_each(|import| match check_import(import, grants) {
            // The script may never call it.
            Err(LoadError::NotGranted { .. }) if is_runtime => Ok(()),
            checked => checked,
        })
}

/// The remedy for a component whose imports and exports have the right names but other types.
pub(crate) fn remedy_for_mismatch(bytes: &[u8]) -> String {
    let newer = ComponentInfo::read(bytes).ok().and_then(|info| {
        info.imports.into_iter().chain(info.exports).find(|import| {
            let Some(name) = Name::parse(import) else { return false };
            packages().any(|package| package.name == name.package && is_newer(name.version, package.version))
        })
    });
    match newer {
        Some(import) => format!("it was built for {import}, which is newer than this host: update the host"),
        None => "build it again against the interfaces of this host".to_owned(),
    }
}

/// The imports and exports of a component, without types.
#[derive(Debug, Clone)]
pub struct ComponentInfo {
    /// Names of the imports.
    pub imports: Vec<String>,
    /// Names of the exports.
    pub exports: Vec<String>,
}

impl ComponentInfo {
    /// Reads the imports and exports of a handler, without checking them against grants.
    ///
    /// # Errors
    /// When the file is not a handler.
    pub fn of_handler(bytes: &[u8]) -> Result<Self, LoadError> {
        check_header(bytes)?;
        let info = Self::read(bytes)?;
        check_exports(&info.exports)?;
        Ok(info)
    }

    /// Reads those of any component.
    ///
    /// # Errors
    /// When the file is not a valid component.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::parse(bytes).map_err(|error| LoadError::Invalid {
            cause: error.to_string(),
        })
    }

    /// Whether it is a script runtime.
    pub fn is_runtime(&self) -> bool {
        let mut imports = self.imports.iter().filter_map(|import| Name::parse(import));
        imports.any(|name| name.full == capability::SOURCE)
    }

    fn parse(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut info = Self {
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
                        // Imported types belong to the other imports; a host does not serve them.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            info.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export?;
                        if export.kind != ComponentExternalKind::Type {
                            info.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(info)
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
        return "this is WebAssembly text; convert it by wasm-tools parse";
    }
    if bytes.starts_with(b"\x7fELF") {
        return "this is a native binary";
    }
    if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() {
        "this is text"
    } else {
        "its first bytes are unknown"
    }
}

fn check_exports(exports: &[String]) -> Result<(), LoadError> {
    let (package, served) = (contract::PACKAGE, contract::VERSION);
    let names: Vec<_> = exports.iter().filter_map(|export| Name::parse(export)).collect();
    // Other exports are not called by this host, and may be anything.
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
                remedy: "it was built for a newer host: update the host".to_owned(),
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
    if package == contract::PACKAGE {
        let range = compatible_range(served).unwrap_or(served);
        return format!("rebuild the handler with plugnode-sdk {range}, or update the host");
    }
    format!("build the handler against {package}@{served}, or update the host")
}

/// The parts of an interface name such as `wasi:cli/stdout@0.2.0`.
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

/// Whether a component built for one version can use the other, by the rules of wasmtime's linker.
fn is_compatible(wanted: &str, served: &str) -> bool {
    wanted == served || compatible_range(wanted).is_some_and(|wanted| compatible_range(served) == Some(wanted))
}

/// The part of a version that all compatible versions share: `0.2` of `0.2.12`. None if no other version is compatible.
fn compatible_range(version: &str) -> Option<&str> {
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

/// Whether `wanted` is compatible with `served` and newer.
fn is_newer(wanted: &str, served: &str) -> bool {
    let patch = |version: &str| version.rsplit('.').next().and_then(|patch| patch.parse::<u64>().ok());
    wanted != served && is_compatible(wanted, served) && patch(wanted) > patch(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_versions_follow_semver() {
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
