//! Which file of `src` imports which, read from the `use` items and paths of the source text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's path, from the crate's root: `["queue", "owner", "state"]`.
type Module = Vec<String>;

/// The imports between files. A name that a `mod.rs` re-exports counts for the file that defines
/// it; what a file's own tests import does not count.
pub(crate) struct Imports {
    of: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    pub(crate) fn of(sources: &[(PathBuf, String)]) -> Imports {
        let code: BTreeMap<Module, String> =
            sources.iter().map(|(path, text)| (module(path), code_of(text))).collect();
        let mut exports: BTreeMap<Module, Vec<Module>> = BTreeMap::new();
        let mut imports: BTreeMap<Module, Vec<Module>> = BTreeMap::new();
        for (own, text) in &code {
            let resolve = |path: String| resolve(own, &path, &code);
            for (public, tree) in use_items(text) {
                let paths = expand(&tree).into_iter().filter_map(resolve);
                let map = if public { &mut exports } else { &mut imports };
                map.entry(own.clone()).or_default().extend(paths);
            }
            let inline = paths_in_code(text).into_iter().filter_map(resolve);
            imports.entry(own.clone()).or_default().extend(inline);
        }
        let file_of = |own: &Module, path: &Module| {
            let file = defining(path, &code, &exports, 0);
            (!file.is_empty() && file != *own).then_some(file)
        };
        let of = imports
            .iter()
            .map(|(own, paths)| {
                (own.clone(), paths.iter().filter_map(|path| file_of(own, path)).collect())
            })
            .collect();
        Imports { of }
    }

    /// The largest sets of files each of which reaches all others of its set by imports.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            self.of.keys().map(|file| (file, self.reachable(file))).collect();
        let circle_of = |file: &&Module| -> BTreeSet<&Module> {
            let back =
                |other: &&&Module| reach.get(**other).is_some_and(|from| from.contains(file));
            reach[file].iter().filter(back).copied().collect()
        };
        let circles: BTreeSet<BTreeSet<&Module>> =
            reach.keys().map(circle_of).filter(|circle| circle.len() > 1).collect();
        let name = |file: &&Module| file.join("/");
        circles.iter().map(|circle| circle.iter().map(name).collect()).collect()
    }

    fn reachable(&self, from: &Module) -> BTreeSet<&Module> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&Module> = self.of[from].iter().collect();
        while let Some(file) = open.pop() {
            if found.insert(file) {
                open.extend(self.of.get(file).into_iter().flatten());
            }
        }
        found
    }
}

fn module(path: &Path) -> Module {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let mut names: Module =
        inside.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|name| name == "mod" || name == "lib") {
        names.pop();
    }
    names
}

/// The text without comments and without the unit tests at its end.
pub(crate) fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Each `use` item: whether it is a re-export, and its tree, without white space.
pub(crate) fn use_items(text: &str) -> Vec<(bool, String)> {
    let statement = |start: usize| {
        let before = text[..start].trim_end();
        let at_start = before.is_empty() || before.ends_with([';', '}', ']', '{']);
        let public = before.ends_with("pub")
            || before.ends_with(')')
                && before.rsplit('(').nth(1).is_some_and(|head| head.ends_with("pub"));
        let tree = text[start + "use ".len()..].split(';').next().unwrap();
        (at_start || public)
            .then(|| (public, tree.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    text.match_indices("use ").filter_map(|(start, _)| statement(start)).collect()
}

/// `a::{b, c::{self, d}}` as `a::b`, `a::c`, `a::c::d`.
pub(crate) fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim().split(" as ").next().unwrap();
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![tree.trim_end_matches("::self").to_owned()];
    };
    let group = &group[..group.rfind('}').unwrap_or(group.len())];
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(expand)
        .map(|part| format!("{prefix}{part}").trim_end_matches("::self").to_owned())
        .collect()
}

/// The paths from `crate` or `super` that stand in the code itself.
fn paths_in_code(text: &str) -> Vec<String> {
    let part_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    // A visibility such as `pub(in crate::actor)` imports nothing.
    let parts = text.split("pub(in ").enumerate();
    let parts = parts.map(|(n, part)| match part.split_once(')') {
        Some((_, rest)) if n > 0 => rest,
        _ => part,
    });
    parts
        .flat_map(|part| part.split(|c| !part_of_path(c)))
        .filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        .map(str::to_owned)
        .collect()
}

/// The path from the root of the crate; none for what another crate defines.
fn resolve(own: &Module, path: &str, code: &BTreeMap<Module, String>) -> Option<Module> {
    let mut names: Vec<&str> =
        path.split("::").map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut base = match *names.first()? {
        "crate" => {
            names.remove(0);
            Module::new()
        }
        "super" | "self" => own.clone(),
        name => {
            let child = [own.clone(), vec![name.to_owned()]].concat();
            code.contains_key(&child).then(|| own.clone())?
        }
    };
    while let Some(&up @ ("super" | "self")) = names.first() {
        if up == "super" {
            base.pop();
        }
        names.remove(0);
    }
    base.extend(names.into_iter().map(str::to_owned));
    Some(base)
}

/// The file that defines what a path names, through the re-exports on the way.
fn defining(
    path: &Module,
    code: &BTreeMap<Module, String>,
    exports: &BTreeMap<Module, Vec<Module>>,
    depth: usize,
) -> Module {
    let length = (0..=path.len()).rev().find(|&n| code.contains_key(&path[..n])).unwrap_or(0);
    let (file, rest) = path.split_at(length);
    let exported = rest
        .first()
        .and_then(|name| exports.get(file)?.iter().find(|export| export.last() == Some(name)));
    match exported {
        Some(export) if depth < 8 => {
            let whole = [export.clone(), rest[1..].to_vec()].concat();
            defining(&whole, code, exports, depth + 1)
        }
        _ => file.to_vec(),
    }
}

#[test]
fn use_trees_are_expanded() {
    let paths = expand("crate::a::{self, B, c::{D, e as F}}");
    assert_eq!(paths, ["crate::a", "crate::a::B", "crate::a::c::D", "crate::a::c::e"]);
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let source = |path: &str, text: &str| {
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path), text.to_owned())
    };
    let imports = Imports::of(&[
        source("a/mod.rs", "mod one;\npub(crate) use one::One;\n"),
        source("a/one.rs", "use crate::b::Two;\n"),
        source("b.rs", "// use crate::c;\npub(crate) fn two() { crate::a::One::new() }\n"),
        source("c.rs", "use crate::a::One;\n"),
    ]);
    assert_eq!(imports.circles(), [["a/one", "b"]]);
}
