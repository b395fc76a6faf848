//! The source tree keeps its rules.

use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::Imports;

/// The layers, lowest first. A file imports from its own module and from lower layers; modules in
/// one row do not import each other. A file of `ipc` is a layer of its own; elsewhere, a layer is a
/// folder of `src`.
const LAYERS: &[&[&str]] = &[
    &["ipc::deadline"],
    &["failpoints", "error", "ipc::fuzz"],
    &["sys"],
    &["ipc::hostile"],
    &[
        "ipc::account",
        "ipc::block",
        "ipc::scratch",
        "ipc::small_bytes",
        "ipc::spin",
        "ipc::unfold",
        "ipc::weak_map",
        "ipc::catch",
    ],
    &["ipc::codec", "ipc::diagnostics", "diagnostics", "ipc::tally", "tally"],
    &["ipc::ipc_fd"],
    &["ipc::region"],
    &["ipc::wire"],
    &["ipc::shared_fd"],
    &["ipc::doorbell"],
    &["ipc::ring"],
    &["ipc::reactor", "ipc::link"],
    &["ipc::parking", "ipc::waitable"],
    &["ipc::event_stream"],
    &["ipc::hub"],
    &["process"],
    &["shared", "sync"],
    &["queue", "channel"],
    &["trace"],
    &["logs", "pool", "select"],
    &["actor"],
    &["supervisor"],
    &["tree", "metrics"],
    &["hostile"],
];

/// Modules with a longer circle that is still to be opened.
const STILL_CIRCULAR: &[&str] = &[];

/// More files than this must not import each other in a circle.
const CIRCLE_MAX: usize = 3;

pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    fn visit(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 10);
    found
}

/// `queue` for `src/queue/delivery.rs`, `ipc::wire` for `src/ipc/wire/encoding.rs`.
pub(crate) fn layer_name(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let inside = inside.with_extension("");
    let names: Vec<&str> = inside.iter().map(|name| name.to_str().unwrap()).collect();
    match names[..] {
        ["ipc", "mod"] => "ipc".to_owned(),
        ["ipc", file, ..] => format!("ipc::{file}"),
        [module, ..] => module.to_owned(),
        [] => unreachable!("a file has a name"),
    }
}

fn layer(name: &str) -> usize {
    LAYERS
        .iter()
        .position(|names| names.contains(&name))
        .unwrap_or_else(|| panic!("`{name}` has no place among the layers"))
}

#[test]
fn files_import_only_from_lower_layers() {
    for (path, text) in sources() {
        let own = layer_name(&path);
        // The last of them is a test, above everything.
        if ["lib", "guide", "ipc", "hostile"].contains(&own.as_str()) {
            continue;
        }
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for import in line.split("crate::").skip(1) {
                let mut names = import
                    .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                    .next()
                    .unwrap()
                    .split("::");
                let mut name = names.next().unwrap().to_owned();
                if name == "ipc" {
                    // Without a module it is a visibility: `pub(in crate::ipc)`.
                    let Some(module) = names.next() else { continue };
                    name = format!("ipc::{module}");
                }
                let public = name.starts_with(char::is_uppercase) || name == "__private";
                if public || name == own {
                    continue;
                }
                assert!(
                    layer(&name) < layer(&own),
                    "{}:{}: `{own}` must not know `{name}`",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn no_circle_of_imports_has_more_than_a_few_files() {
    let circles = Imports::of(&sources()).circles();
    let long: Vec<_> = circles
        .iter()
        .filter(|circle| circle.len() > CIRCLE_MAX)
        .filter(|circle| !STILL_CIRCULAR.contains(&circle[0].split('/').next().unwrap()))
        .collect();
    assert!(long.is_empty(), "files that import each other in a circle: {long:#?}");
}

#[test]
fn unsafe_code_stands_where_memory_is() {
    for (path, text) in sources() {
        if ["sys", "ipc::region", "shared", "sync"].contains(&layer_name(&path).as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            // A hook of the user before exec is his promise, which is only passed on.
            if path.ends_with("process/unix.rs")
                && (code.contains("unsafe fn pre_exec")
                    || code.contains("unsafe { Hook::new(hook) }"))
            {
                continue;
            }
            assert!(!code.contains("unsafe"), "{}:{}: unsafe code", path.display(), number + 1);
        }
    }
}

#[test]
fn a_function_that_documents_a_panic_blames_its_caller() {
    let mut count = 0;
    for (path, text) in sources() {
        for after in text.split("# Panics\n").skip(1) {
            let item: Vec<_> =
                after.lines().map(str::trim).skip_while(|line| line.starts_with("//")).collect();
            let signature = item.iter().position(|line| line.contains("fn ")).unwrap();
            let attributes = &item[..signature];
            let file = path.display();
            let named = item[signature];
            if !named.starts_with("pub fn") {
                continue;
            }
            assert!(attributes.contains(&"#[track_caller]"), "{file}: `{named}`");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn only_one_file_calls_the_logger_about_this_crate() {
    const MACROS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "log"];
    for (path, text) in sources() {
        // The last is a test, whose records are a worker's.
        if ["ipc::diagnostics", "hostile"].contains(&layer_name(&path).as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let is_call = MACROS.iter().any(|name| line.contains(&format!("log::{name}!")));
            let is_comment = line.trim_start().starts_with("//");
            assert!(
                !is_call || is_comment,
                "{}:{}: use `diagnostics`, since a logger may panic or block",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    for (path, text) in sources() {
        // A model is a test in a file of its own.
        if path.ends_with("model.rs") {
            continue;
        }
        let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(
            lines <= 650,
            "{} has {lines} lines without its tests: split it by idea",
            path.display()
        );
    }
}

/// The file and the name of each test that the list of faults names.
fn listed_tests(list: &str) -> Vec<(String, String)> {
    let names = list
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let names = names.filter_map(|name| name.rsplit_once("::"));
    names
        .map(|(place, test)| match place.ends_with(".rs") {
            true => (place.to_owned(), test.to_owned()),
            false => (format!("tests/it/process/{place}.rs"), test.to_owned()),
        })
        .collect()
}

#[test]
fn every_test_in_the_list_of_faults_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("tests/it/process/CHECKLIST.md")).unwrap();
    let tests = listed_tests(&list);
    assert!(tests.len() > 60, "{}", tests.len());
    for (file, test) in tests {
        let text =
            fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let head = text.split(&format!("fn {test}()")).next().unwrap_or_default();
        let attribute = head.trim_end().lines().next_back().unwrap_or_default().trim();
        assert!(
            head.len() < text.len()
                && (attribute.starts_with("#[offspring::test") || attribute == "#[test]"),
            "{file} has no test `{test}`"
        );
    }
    let rows = list.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| fault") && !line.starts_with("| ---")
    });
    assert!(rows.clone().all(|row| row.contains("::")), "a fault without a test");
}

#[test]
fn every_file_in_the_map_of_the_tests_is_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let map = fs::read_to_string(tests.join("README.md")).unwrap();
    let rows = map.lines().skip_while(|line| !line.starts_with("| promise"));
    let cells = rows.filter_map(|line| line.strip_prefix('|')?.split('|').nth(1));
    let files: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(files.len() > 40, "{}", files.len());
    for file in files {
        assert!(tests.join("it").join(file).is_file(), "tests/README.md names {file}");
    }
}

#[test]
fn the_changelog_has_this_version_and_so_has_the_macro_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let changelog = fs::read_to_string(root.join("CHANGELOG.md")).unwrap();
    assert!(changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
    // In a package cargo has written another, without paths.
    let manifest = fs::read_to_string(root.join("Cargo.toml.orig"))
        .or_else(|_| fs::read_to_string(root.join("Cargo.toml")))
        .unwrap();
    assert!(manifest.contains(&format!(
        "offspring-macros = {{ path = \"macros\", version = \"={}\" }}",
        env!("CARGO_PKG_VERSION")
    )));
}
