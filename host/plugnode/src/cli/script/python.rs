//! Files of a Python program: the main file, and the modules in its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names of the main file in a folder with a pyproject.toml; the first that exists is used.
const MAIN: [&str; 3] = ["app.py", "main.py", "server.py"];
/// Folders that are not part of a program.
const EXCLUDED: [&str; 8] = [
    "__pycache__",
    "build",
    "dist",
    "node_modules",
    "public",
    "site-packages",
    "tests",
    "venv",
];
/// Limits of a program, so that a script in the wrong folder does not embed a home directory.
const MAX_FILES: usize = 1000;
const MAX_BYTES: usize = 8 << 20;

/// Whether this is a Python file.
pub(super) fn is_program(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

/// The main file of a folder with a pyproject.toml. None without a pyproject.toml.
pub(super) fn find(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.join("pyproject.toml").is_file() {
        return Ok(None);
    }
    let mut files = MAIN.iter().map(|name| folder.join(name)).filter(|file| file.is_file());
    let Some(main) = files.next() else {
        bail!(
            "{} has a pyproject.toml but none of {}; name the Python file itself",
            folder.display(),
            MAIN.join(", ")
        );
    };
    Ok(Some(main))
}

/// The main file followed by the modules in its folder, each with its path relative to the folder.
pub(super) fn files(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = match program.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = vec![program.to_owned()];
    add_modules(folder, program, &mut found)?;
    let mut bytes = 0;
    let mut files = Vec::with_capacity(found.len());
    for file in found {
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        bytes += text.len();
        if bytes > MAX_BYTES {
            bail!(
                "the modules in {} have more than {MAX_BYTES} bytes in all; move the program to a folder of its own",
                folder.display()
            );
        }
        let within = file.strip_prefix(folder).unwrap_or(&file);
        let parts: Vec<_> = within.iter().map(|part| part.to_string_lossy()).collect();
        files.push((parts.join("/"), text));
    }
    Ok(files)
}

/// Adds the modules in `folder` and its subfolders. Symbolic links are not followed.
fn add_modules(folder: &Path, program: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || EXCLUDED.contains(&&*name) {
            continue;
        }
        if kind.is_dir() && !path.join("pyvenv.cfg").exists() {
            add_modules(&path, program, found)?;
        } else if kind.is_file() && is_program(&path) && path != *program {
            if found.len() >= MAX_FILES {
                bail!(
                    "there are more than {MAX_FILES} modules beside {}; move the program to a folder of its own",
                    program.display()
                );
            }
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_file_precedes_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, name).unwrap();
        };
        for name in [
            "pyproject.toml",
            "zoo.py",
            "app.py",
            "shop/__init__.py",
            "shop/cart.py",
            "public/x.py",
            "a.txt",
            ".hid/x.py",
        ] {
            write(name);
        }
        write("env/pyvenv.cfg");
        write("env/lib/x.py");
        let program = find(folder.path()).unwrap().unwrap();
        let files = files(&program).unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["app.py", "shop/__init__.py", "shop/cart.py", "zoo.py"]);
        std::fs::remove_file(program).unwrap();
        assert!(find(folder.path()).unwrap_err().to_string().contains("app.py, main.py"));
    }
}
