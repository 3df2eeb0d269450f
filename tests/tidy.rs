//! The structure of the code: who may import whom, who may know what, how long a file may be.
//!
//! These tests read the tree as text. A rule that is in the way is changed here, in the commit of
//! the code that needs it otherwise.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Folder, name, and the packages of this workspace it may depend on.
const PACKAGES: [(&str, &str, &[&str]); 4] = [
    ("proto", "fastgate", &[]),
    ("control-plane", "fastgate-control-plane", &["fastgate"]),
    ("data-plane", "fastgate-data-plane", &["fastgate"]),
    ("ctl", "fgctl", &["fastgate", "fastgate-control-plane", "fastgate-data-plane"]),
];

/// Where `fastgate::node::v1` is known: everything else has types of its own.
const KNOWS_NODE_API: &[&str] = &[
    "proto/digest.rs", // of entities as they are sent
    "proto/entity_error.rs",
    "proto/model/", // parses them
    "control-plane/src/audit/",
    "control-plane/src/admin/history.rs", // names the kinds of entities
    "control-plane/src/domain/object.rs", // makes what nodes get of an object
    "control-plane/src/domain/revision.rs", // tells which kinds of entities it changed
    "control-plane/src/feed/",
    "control-plane/src/identity/", // issues what nodes ask for
    "control-plane/src/nodes/",    // what nodes said of themselves
    "control-plane/src/store/",    // keeps entities and deltas as the bytes that are sent
    "data-plane/src/audit/onward/events.rs", // takes batches apart
    "data-plane/src/audit/push.rs",
    "data-plane/src/audit/tail.rs",
    "data-plane/src/compile/",
    "data-plane/src/credentials/enrollment.rs",
    "data-plane/src/sync/",
];

/// The same for `fastgate::admin::v1`.
const KNOWS_ADMIN_API: &[&str] = &[
    "proto/audit.rs", // matches events
    "proto/event.rs", // how one is written
    "proto/model/",
    "control-plane/src/admin/",
    "control-plane/src/audit/tails.rs", // hands events on as they are shown
    "control-plane/src/domain/",        // routes and upstreams are kept as they were written
    "control-plane/src/feed/mod.rs",
    "control-plane/src/feed/set_back.rs", // tells what was lost
    "control-plane/src/nodes/",
    "control-plane/src/rollout/", // judges by what nodes told
    "control-plane/src/store/",
    "data-plane/src/audit/onward/",  // events as they are in a batch
    "data-plane/src/compile/",       // an entity holds a route or an upstream as it was written
    "data-plane/src/explain/",       // tells what it finds as people read it
    "data-plane/src/sync/question/", // the same of what the node holds
    "data-plane/src/sync/health.rs", // tells what requests came to
    "ctl/src/client.rs",
    "ctl/src/commands/",
    "ctl/src/dev/demo.rs",
    "ctl/src/document/",
];

/// Lines of a file without its tests. Below 400 nobody asks whether it is two files.
const MAX_LINES: usize = 500;

#[test]
fn packages_depend_downwards_only() {
    let mut wrong = Vec::new();
    for (folder, name, may_use) in PACKAGES {
        let folder = if folder == "proto" { "." } else { folder };
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect(folder);
        for other in PACKAGES.map(|(_, other, _)| other) {
            // The tests of the root package may use everything: they are above all others.
            let is_used = sections(&manifest)
                .filter(|(section, _)| section.ends_with("dependencies]"))
                .filter(|(section, _)| !(folder == "." && *section == "[dev-dependencies]"))
                .filter(|(section, _)| *section != "[workspace.dependencies]")
                .any(|(_, line)| line.split(['.', ' ', '=']).next() == Some(other));
            if is_used && !may_use.contains(&other) {
                wrong.push(format!("{name} depends on {other}"));
            }
        }
    }
    // What the root package may use in its tests is out of reach for proto/ all the same.
    for source in sources().iter().filter(|source| source.path.starts_with("proto/")) {
        for (_, other, _) in &PACKAGES[1..] {
            if source.code().contains(&other.replace('-', "_")) {
                wrong.push(format!("{} names {other}", source.path));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn modules_of_a_crate_import_without_circles() {
    for folder in ["proto", "control-plane/src", "data-plane/src", "ctl/src"] {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for source in sources() {
            if let Some(module) = source.top_module(folder) {
                let known = imports.entry(module.clone()).or_default();
                known.extend(source.imports().into_iter().filter(|import| *import != module));
            }
        }
        // Takes away what imports nothing that is left, as often as there is something.
        while let Some(lowest) = imports
            .iter()
            .find(|(_, known)| !known.iter().any(|import| imports.contains_key(import)))
            .map(|(module, _)| module.clone())
        {
            imports.remove(&lowest);
        }
        assert!(imports.is_empty(), "in or above a circle of {folder}: {imports:#?}");
    }
}

#[test]
fn wire_types_stay_at_the_edges() {
    for (api, known_to) in [("node::v1", KNOWS_NODE_API), ("admin::v1", KNOWS_ADMIN_API)] {
        let mut unused: BTreeSet<_> = known_to.iter().collect();
        let mut wrong = Vec::new();
        for source in sources().iter().filter(|source| !source.is_test()) {
            if source.path == "proto/lib.rs" || !source.code().contains(api) {
                continue;
            }
            match known_to.iter().find(|known| source.path.starts_with(**known)) {
                Some(known) => drop(unused.remove(known)),
                None => wrong.push(source.path.clone()),
            }
        }
        assert_eq!(wrong, [""; 0], "name {api}");
        assert!(unused.is_empty(), "need not know {api}: {unused:?}");
    }
}

#[test]
fn no_file_is_too_long() {
    let long = sources().into_iter().filter(|source| !source.is_test()).filter_map(|source| {
        let lines = source.product().lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let bare = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    assert_eq!(bare.map(|source| source.path).collect::<Vec<_>>(), [""; 0]);
}

/// A clone builds anywhere: no path of somebody's machine, no registry but the public one.
#[test]
fn nothing_belongs_to_one_machine() {
    let folders = ["work", "tmp", "root", "home"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        for (line, at) in text.lines().zip(1..) {
            let names_folder = folders.iter().any(|folder| {
                line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(is_part_of_path))
            });
            let is_lock = path.ends_with("Cargo.lock");
            let source = line.strip_prefix("source = ").filter(|_| is_lock);
            let is_foreign = source.is_some_and(|source| {
                !source.starts_with("\"registry+https://github.com/rust-lang/")
            });
            let is_mirror = ["[registries", "[source", "replace-with", "registry ="]
                .iter()
                .any(|setting| path.ends_with(".toml") && line.trim().starts_with(setting));
            if names_folder || is_foreign || is_mirror {
                wrong.push(format!("{path}:{at}: {line}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// `/a/tmp/` and `{dir}/tmp/` are no folders of the machine.
fn is_part_of_path(c: char) -> bool {
    c.is_alphanumeric() || "})_-.*/".contains(c)
}

/// A file of Rust.
struct Source {
    /// From the root of the tree.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next();
        name == Some("tests.rs") || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// All but the tests at its end.
    fn product(&self) -> String {
        let (before, tests) =
            self.text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&self.text, ""));
        let (_, after) = tests.split_once("\n}\n").unwrap_or_default();
        format!("{before}{after}")
    }

    /// The same without comments.
    fn code(&self) -> String {
        let product = self.product();
        let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The module just below the root of the crate in `folder` it belongs to.
    fn top_module(&self, folder: &str) -> Option<String> {
        let below = self.path.strip_prefix(folder)?.strip_prefix('/')?;
        let module = below.split('/').next()?.trim_end_matches(".rs");
        (!self.is_test() && !["lib", "main"].contains(&module)).then(|| module.to_owned())
    }

    /// What stands behind `crate::`: a name, or the names in braces.
    fn imports(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut names = BTreeSet::new();
        for (_, behind) in
            code.match_indices("crate::").map(|(at, it)| code.split_at(at + it.len()))
        {
            let (mut depth, mut at_start) = (0, true);
            for (at, c) in behind.char_indices() {
                if at_start && (c.is_alphabetic() || c == '_') {
                    let end = behind[at..].find(|c: char| !c.is_alphanumeric() && c != '_');
                    names.insert(behind[at..at + end.unwrap_or(1)].to_owned());
                    at_start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => at_start = true,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        names
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let files = texts().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    files.map(|(path, text)| Source { path, text }).collect()
}

/// Every text file of the tree, by its path from the root.
fn texts() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            if [".git", "target"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(name, text);
            }
        }
    }
    found
}

/// The lines of a manifest, each with the section it stands in.
fn sections(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    manifest.lines().map(move |line| {
        if line.starts_with('[') {
            section = line;
        }
        (section, line)
    })
}
