//! A program in Python: the file to begin with, and the modules in its folder that it may import.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What a folder with a pyproject.toml may begin with.
const FIRST: [&str; 3] = ["app.py", "main.py", "server.py"];
/// Folders that are no part of a program.
const LEFT_ALONE: [&str; 8] = [
    "__pycache__",
    "build",
    "dist",
    "node_modules",
    "public",
    "site-packages",
    "tests",
    "venv",
];
/// The most that a program may have.
const MOST_FILES: usize = 1000;
const MOST_BYTES: usize = 8 << 20;

pub(super) fn is_program(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "py")
}

/// The program of a folder that has a pyproject.toml.
pub(super) fn find(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.join("pyproject.toml").is_file() {
        return Ok(None);
    }
    let mut first = FIRST.iter().map(|name| folder.join(name)).filter(|file| file.is_file());
    let Some(first) = first.next() else {
        bail!(
            "{} has a pyproject.toml and none of {}; name the program itself",
            folder.display(),
            FIRST.join(", ")
        );
    };
    Ok(Some(first))
}

/// The program and its modules, by their places within its folder: the program first.
pub(super) fn files(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = match program.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = vec![program.to_owned()];
    gather(folder, program, &mut found)?;
    let mut bytes = 0;
    let mut files = Vec::with_capacity(found.len());
    for file in found {
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        bytes += text.len();
        if bytes > MOST_BYTES {
            bail!(
                "the modules in {} are more than {MOST_BYTES} bytes: keep the program in a folder of its own",
                folder.display()
            );
        }
        let within = file.strip_prefix(folder).unwrap_or(&file);
        let parts: Vec<_> = within.iter().map(|part| part.to_string_lossy()).collect();
        files.push((parts.join("/"), text));
    }
    Ok(files)
}

/// Links are not followed: a program is what is in its folder.
fn gather(folder: &Path, program: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || LEFT_ALONE.contains(&&*name) {
            continue;
        }
        if kind.is_dir() && !path.join("pyvenv.cfg").exists() {
            gather(&path, program, found)?;
        } else if kind.is_file() && is_program(&path) && path != *program {
            if found.len() >= MOST_FILES {
                bail!(
                    "there are more than {MOST_FILES} modules beside {}: keep it in a folder of its own",
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
    fn program_comes_first_and_then_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| {
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
            put(name);
        }
        put("env/pyvenv.cfg");
        put("env/lib/x.py");
        let program = find(folder.path()).unwrap().unwrap();
        let files = files(&program).unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["app.py", "shop/__init__.py", "shop/cart.py", "zoo.py"]);
        std::fs::remove_file(program).unwrap();
        assert!(find(folder.path()).unwrap_err().to_string().contains("app.py, main.py"));
    }
}
