//! Every public item has an example.

use std::collections::BTreeSet;

use crate::tidy::{layer_name, sources};

/// Used only where an actor is implemented by hand.
const WITHOUT: [&str; 3] = ["ActorProcess", "ActorExit", "register_actor"];

#[test]
fn every_public_item_has_an_example() {
    let shown = shown();
    let public = public();
    assert!(public.len() > 150, "only {} items were found", public.len());
    let without: Vec<_> =
        public.difference(&shown).filter(|(_, name)| !WITHOUT.contains(&name.as_str())).collect();
    assert!(without.is_empty(), "without an example: {without:?}");
}

/// The exports of `lib.rs` and the public modules, with the module that defines each.
fn public() -> BTreeSet<(String, String)> {
    let sources = sources();
    let text_of = |file: &str| {
        sources.iter().find(|(path, _)| path.ends_with(file)).map(|(_, text)| text.as_str())
    };
    let root = text_of("src/lib.rs").unwrap().split("#[doc(hidden)]").next().unwrap();
    let mut names = exports(root, "lib");
    for module in root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        names.extend(
            text_of(&format!("src/{module}/mod.rs"))
                .map_or_else(Vec::new, |text| exports(text, module)),
        );
    }
    // `macro_rules!` macros are exported where they are defined.
    names.extend(
        [("process", "register"), ("actor", "register_actor")]
            .map(|(module, name)| (module.to_owned(), name.to_owned())),
    );
    names.into_iter().collect()
}

/// `("queue", "Queue")` and `("queue", "Delivery")` of `pub use queue::{Queue, Delivery};` in
/// `lib.rs`.
fn exports(text: &str, module: &str) -> Vec<(String, String)> {
    let text = text.replace("#[doc(hidden)]\npub use ", "");
    let uses = text.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap());
    uses.flat_map(|path| {
        let path: String = path.split_whitespace().collect();
        let (from, names) =
            path.rsplit_once("::{").or_else(|| path.rsplit_once("::")).unwrap_or((module, &path));
        let home = match from
            .strip_prefix("crate::")
            .map_or(from, |path| path.split("::").next().unwrap())
        {
            "offspring_macros" => "lib",
            _ if module != "lib" && !from.starts_with("crate::") => module,
            home => home.split("::").next().unwrap(),
        };
        let names = names.trim_end_matches('}').split(',').filter(|name| !name.is_empty());
        names.map(|name| (home.to_owned(), name.to_owned())).collect::<Vec<_>>()
    })
    .collect()
}

/// The items that have an example, with their modules.
fn shown() -> BTreeSet<(String, String)> {
    let mut shown = BTreeSet::new();
    for (path, text) in sources() {
        let module = layer_name(&path).split("::").next().unwrap().to_owned();
        shown.extend(
            documented(&text).filter(|(documentation, _)| documentation.contains("```")).flat_map(
                |(_, line)| {
                    names(line).into_iter().map(|name| (module.clone(), name)).collect::<Vec<_>>()
                },
            ),
        );
    }
    shown
}

/// Each doc comment, with the first line of its item.
fn documented(text: &str) -> impl Iterator<Item = (String, &str)> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        let mut documentation = String::new();
        let mut in_attribute = false;
        for line in lines.by_ref() {
            let start = line.trim_start();
            if start.starts_with("///") {
                documentation += line;
            } else if in_attribute || start.starts_with("#[") {
                in_attribute = !line.ends_with(']');
            } else if !documentation.is_empty() {
                return Some((documentation, line));
            }
        }
        None
    })
}

/// The item that a line defines or exports; not a method.
fn names(line: &str) -> Vec<String> {
    const KINDS: [&str; 9] = [
        "pub struct ",
        "pub enum ",
        "pub trait ",
        "pub fn ",
        "pub const ",
        "pub type ",
        "macro_rules! ",
        "pub use offspring_macros::",
        "pub use bytemuck::",
    ];
    let code = line.trim_start();
    let name: String = KINDS
        .iter()
        .find_map(|kind| code.strip_prefix(kind))
        .unwrap_or(code)
        .chars()
        .take_while(|&c| c.is_alphanumeric() || c == '_' || c == '$')
        .collect();
    match name.as_str() {
        _ if code != line && code.starts_with("pub fn") => Vec::new(),
        // One macro generates them all.
        "$atomic" => ["Bool", "I32", "I64", "Isize", "U32", "U64", "Usize"]
            .map(|kind| format!("Atomic{kind}"))
            .to_vec(),
        _ => vec![name],
    }
}
