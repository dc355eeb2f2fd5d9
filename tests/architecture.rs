//! The layers of the source, and the sizes that the pages promise.
//!
//! The imports of `src` are read as text: `use` lines and paths that begin with `crate::`, `super::` or `self::`, outside of
//! test modules. An import of a module counts as an import of its file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the lowest to the highest: a layer uses those before it.
const LAYERS: [&str; 6] = ["engine", "data", "nn", "train", "lab", "cli"];

/// Modules that may import each other in a circle, each set with its reason.
const ALLOWED_CIRCLES: &[(&[&str], &str)] = &[];

/// Files that are still longer than 400 lines.
const LONG: &[&str] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension, in order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, extension)),
            false if path.extension().is_some_and(|e| e == extension) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// `src/engine/ops/mod.rs` is `["engine", "ops"]`.
fn module(path: &Path) -> Vec<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The text without comments, strings and inline test modules: what can hold an import.
fn code(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        // Test modules stand at the end of a file.
        if line.starts_with("mod tests {") || line.starts_with("pub(crate) mod tests {") {
            break;
        }
        kept.push_str(line.split("//").next().unwrap_or_default());
        kept.push('\n');
    }
    kept
}

/// Expands `a::{b, c::{d, e}}` into `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_string()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expand(&format!("{}{}", prefix.trim(), part.trim()))).collect()
}

/// Absolute paths of what the file of module `me` imports.
fn imports(code: &str, me: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    // Statements: `use ..;`, also `pub use ..;`.
    for statement in code.split(';') {
        if let Some(at) = statement.rfind("use ") {
            let is_statement =
                statement[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == ')');
            if is_statement {
                paths.extend(expand(&statement[at + 4..]));
            }
        }
    }
    // Paths inside expressions and types.
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = code[at..].find(|c| !is_path(c)).map_or(code.len(), |end| at + end);
            paths.push(code[at..end].to_string());
        }
    }
    paths.iter().filter_map(|path| absolute(path, me)).collect()
}

/// `super::tape::Var` in `engine::ops` is `engine::tape::Var`.
fn absolute(path: &str, me: &[String]) -> Option<Vec<String>> {
    let mut parts = path.split("::").map(|part| part.split(" as ").next().unwrap_or(part).trim());
    let mut base = me.to_vec();
    let mut parts = match parts.next()? {
        "crate" => {
            base.clear();
            parts.collect::<Vec<_>>()
        }
        "self" => parts.collect(),
        "super" => {
            base.pop();
            parts.collect()
        }
        _ => return None,
    };
    while parts.first() == Some(&"super") {
        base.pop();
        parts.remove(0);
    }
    base.extend(parts.iter().map(|part| part.to_string()));
    Some(base)
}

/// The modules of `src`, without tests, each with the modules that it imports.
fn graph() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let src = root().join("src");
    let files: Vec<_> = files(&src, "rs")
        .into_iter()
        .filter(|path| !path.iter().any(|part| part == "tests.rs" || part == "tests"))
        .collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|path| module(path)).collect();
    let owner = |mut path: Vec<String>| {
        while !modules.contains(&path) && path.pop().is_some() {}
        path
    };
    files
        .iter()
        .map(|path| {
            let (me, text) = (module(path), std::fs::read_to_string(path).unwrap());
            let found = imports(&code(&text), &me).into_iter().map(&owner);
            let found = found.filter(|other| !other.is_empty() && *other != me).collect();
            (me, found)
        })
        .collect()
}

#[test]
fn imports_are_read() {
    assert_eq!(expand("a::{b, c::{d, e}, f as g}"), ["a::b", "a::c::d", "a::c::e", "a::f as g"]);
    let me = vec!["nn".to_string(), "moe".to_string()];
    let text = "use super::{router, usage::Usage};\npub use crate::engine::arr;\nfn f() { crate::data::g() }";
    let found: Vec<String> = imports(text, &me).iter().map(|path| path.join("::")).collect();
    for path in ["nn::router", "nn::usage::Usage", "engine::arr", "data::g"] {
        assert!(found.iter().any(|f| f == path), "{path} in {found:?}");
    }
    let graph = graph();
    let tape = vec!["engine".to_string(), "tape".to_string()];
    let users = graph.values().filter(|imports| imports.contains(&tape)).count();
    assert!(users > 10, "many modules import the tape, but {users} were found");
}

#[test]
fn every_arrow_points_downward() {
    let rank = |module: &[String]| LAYERS.iter().position(|layer| *layer == module[0]);
    let mut upward = Vec::new();
    for (from, imports) in &graph() {
        for to in imports {
            if let (Some(mine), Some(other)) = (rank(from.as_slice()), rank(to))
                && other > mine
            {
                upward.push(format!("{} imports {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let known = LAYERS.contains(&&*name) || name == "lib" || name == "main";
        assert!(known, "{name} is no layer: put it into one of {LAYERS:?}");
    }
}

/// Sets of modules that reach each other, without arrows between a module and those inside it: a `mod.rs` may declare
/// and show what it holds, which in turn uses what the `mod.rs` defines.
fn circles() -> Vec<Vec<String>> {
    let graph = graph();
    let nested = |a: &[String], b: &[String]| a.starts_with(b) || b.starts_with(a);
    let next = |module: &Vec<String>| -> Vec<_> {
        let imports = graph[module].iter();
        imports.filter(|other| other[0] == module[0] && !nested(module, other)).collect()
    };
    let reach = |from: &Vec<String>| {
        let (mut seen, mut open) = (BTreeSet::new(), next(from));
        while let Some(module) = open.pop() {
            if seen.insert(module) {
                open.extend(next(module));
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|module| (module, reach(module))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (module, others) in &reached {
        if !others.contains(module) {
            continue;
        }
        let mut circle: Vec<String> =
            others.iter().filter(|o| reached[**o].contains(module)).map(|o| o.join("::")).collect();
        circle.sort();
        if !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let allowed = |circle: &Vec<String>| {
        let holds = |set: &[&str]| circle.iter().all(|module| set.contains(&module.as_str()));
        ALLOWED_CIRCLES.iter().any(|(set, _)| holds(set))
    };
    let circles: Vec<_> = circles().into_iter().filter(|circle| !allowed(circle)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// Lines of a file, given from the root of the repository.
fn lines(path: &str) -> usize {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).lines().count()
}

#[test]
fn what_is_read_first_is_short() {
    let limits = [("src/engine/tape.rs", 180), ("examples/04_mlp_digits.rs", 48), ("README.md", 130)];
    for (path, limit) in limits {
        assert!(lines(path) <= limit, "{path}: {} lines, at most {limit}", lines(path));
    }
}

#[test]
fn every_file_of_the_source_has_at_most_400_lines() {
    for path in files(&root().join("src"), "rs") {
        let name = path.strip_prefix(root().join("src")).unwrap().to_string_lossy().replace('\\', "/");
        let count = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(count <= 400 || LONG.contains(&&*name), "{name}: {count} lines, at most 400");
    }
}
