//! Rules about the workspace that no lint can state: who may depend on whom, where `unsafe` may
//! stand, and that every file opens by saying what it is.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy sees only the test functions themselves as tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and the crates of ours it may use: lower floors, or its own along a written arrow.
///
/// A new edge is a decision: write it down in `docs/decisions/` with its reason, then here.
const EDGES: &[(&str, &[&str])] = &[
    // decisions
    ("model", &[]),
    // kernel and disk
    ("sys", &[]),
    ("store", &["model", "sys"]),
    ("registry", &["model"]),
    ("runtime", &["model", "sys"]),
    ("network", &["model", "sys"]),
    // use cases
    (
        "engine",
        &["model", "sys", "store", "registry", "runtime", "network"],
    ),
    // protocols
    ("docker-api", &["model", "sys", "engine"]),
    ("client", &["model", "sys"]),
    // programs
    (
        "berth",
        &["model", "sys", "runtime", "engine", "docker-api", "client"],
    ),
    // beside the product: from outside only, except that parsers are fed bytes directly
    ("e2e", &["model", "registry", "store", "docker-api"]),
    ("bench", &["e2e"]),
];

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = EDGES
        .iter()
        .map(|&(name, edges)| (name, edges.iter().copied().collect()))
        .collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("crate {name} is not in the table of allowed edges"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(
                !ours.contains(used) || allowed.contains(used),
                "{name} may not depend on {used} (tests/tests/tidy.rs has the table)"
            );
        }
    }
}

#[test]
fn only_sys_is_unsafe() {
    for file in rust_files() {
        if file.starts_with(workspace().join("crates/sys")) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            let found = [
                "unsafe {",
                "unsafe fn",
                "unsafe impl",
                "unsafe extern",
                "unsafe(",
            ];
            assert!(
                file.ends_with("tidy.rs") || !found.iter().any(|word| code.contains(word)),
                "{}:{}: unsafe belongs in sys",
                file.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_crate_has_the_lints_and_sys_only_its_differences() {
    let root = workspace();
    for package in metadata()["packages"].as_array().unwrap() {
        let manifest = package["manifest_path"].as_str().unwrap();
        let text = std::fs::read_to_string(manifest).unwrap();
        if package["name"] != "sys" {
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{manifest} inherits the lints"
            );
        }
    }
    let workspace = lints(&root.join("Cargo.toml"), "workspace.lints");
    let mut sys = lints(&root.join("crates/sys/Cargo.toml"), "lints");
    for (name, level) in &workspace {
        if name == "rust.unsafe_code" {
            assert!(sys.get(name).is_none_or(|level| !level.contains("forbid")));
            sys.remove(name);
            continue;
        }
        assert_eq!(
            sys.remove(name).as_ref(),
            Some(level),
            "sys repeats the workspace's {name}"
        );
    }
    // Stricter rules about unsafe code itself are sys's own.
    for (name, level) in sys {
        assert!(!level.contains("allow"), "sys alone relaxes {name}");
    }
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for file in rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("");
        assert!(
            first.starts_with("//!"),
            "{} has no `//!` header",
            file.display()
        );
    }
}

#[test]
fn text_is_tidy() {
    for file in files(&["rs", "toml", "md"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            assert!(
                !line.ends_with([' ', '\t']),
                "{place}: space at the end of the line"
            );
            assert!(
                !line.starts_with("<<<<<<< "),
                "{place}: a merge was left half done"
            );
        }
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{}: no last newline",
            file.display()
        );
    }
}

/// One lint table's entries, `group.lint` → level as written.
fn lints(manifest: &Path, table: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let mut group = None;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            group = name
                .strip_prefix(table)
                .and_then(|rest| rest.strip_prefix('.'));
        } else if let (Some(group), Some((name, level))) = (group, line.split_once('=')) {
            found.insert(format!("{group}.{}", name.trim()), level.trim().to_owned());
        }
    }
    assert!(
        !found.is_empty(),
        "{} has a table [{table}.…]",
        manifest.display()
    );
    found
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn rust_files() -> Vec<PathBuf> {
    files(&["rs"])
}

/// The files that git knows (or would add), by extension.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let out = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(workspace())
        .output()
        .expect("git is installed");
    assert!(out.status.success(), "the tests run in a git checkout");
    String::from_utf8(out.stdout)
        .unwrap()
        .split('\0')
        .filter(|name| {
            name.rsplit_once('.')
                .is_some_and(|(_, extension)| extensions.contains(&extension))
        })
        .map(|name| workspace().join(name))
        .filter(|path| path.is_file())
        .collect()
}
