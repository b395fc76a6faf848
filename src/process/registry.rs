//! The workers of this program, found by name, because the address of a function is not valid in
//! another process.
//!
//! Types with the same name, such as those of two versions of a crate, are told apart by their
//! places in the source, because the author of the program could not rename them.

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use crate::error::SpawnError;
use crate::ipc::wire;
use crate::process::run::RunWorker;
use crate::process::task::Perform;

/// Not public API: what `register!` submits.
#[derive(Debug)]
pub struct Registration {
    pub(super) name: fn() -> &'static str,
    pub(super) actor: fn() -> Option<&'static str>,
    pub(super) type_id: fn() -> TypeId,
    /// Size and alignment.
    pub(super) layout: (usize, usize),
    pub(super) run: RunWorker,
    pub(super) perform: Perform,
    pub(super) file: &'static str,
    pub(super) line: u32,
}

inventory::collect!(Registration);

impl Registration {
    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// Returns the key of a worker that shares its name with others.
    fn key_with_place(&self) -> String {
        format!("{} at {}", (self.name)(), self.place())
    }
}

/// Not public API: the path of a test with `#[offspring::test]`, with its crate. libtest runs it by
/// this path without the crate.
#[derive(Debug)]
pub struct TestPath(pub &'static str);

inventory::collect!(TestPath);

impl TestPath {
    pub(super) fn in_harness(&self) -> &'static str {
        self.0.split_once("::").map_or(self.0, |(_, path)| path)
    }
}

/// Returns the path of a test of this program, the same one each time, if there is one.
pub(super) fn a_test() -> Option<&'static str> {
    inventory::iter::<TestPath>.into_iter().map(TestPath::in_harness).min()
}

struct Registry {
    /// Sorted by key, so that a worker has the same index in all processes of the program. The index
    /// is its number.
    workers: Vec<(String, &'static Registration)>,
    /// The workers whose key is unique.
    numbers: HashMap<TypeId, u32>,
    fingerprint: u64,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        // A type that is registered twice is one worker.
        let mut types = HashSet::new();
        let all = inventory::iter::<Registration>.into_iter();
        let all: Vec<_> = all.filter(|worker| types.insert((worker.type_id)())).collect();
        let mut namesakes: HashMap<&'static str, usize> = HashMap::new();
        for worker in &all {
            *namesakes.entry((worker.name)()).or_default() += 1;
        }
        let key = |worker: &'static Registration| match namesakes[(worker.name)()] {
            1 => ((worker.name)().to_owned(), worker),
            _ => (worker.key_with_place(), worker),
        };
        let mut workers: Vec<(String, &'static Registration)> = all.into_iter().map(key).collect();
        workers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut numbers = HashMap::new();
        for (index, (key, worker)) in workers.iter().enumerate() {
            let beside = [index.wrapping_sub(1), index + 1].map(|beside| workers.get(beside));
            if !beside.into_iter().flatten().any(|(other, _)| other == key) {
                numbers.insert((worker.type_id)(), index as u32);
            }
        }
        let entries = workers.iter().map(|(key, worker)| format!("{key} {:?}", worker.layout));
        let own = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        let texts = entries.chain([own.to_owned()]);
        let fingerprint =
            texts.fold(0, |sum: u64, text| sum.wrapping_add(wire::fingerprint(&text)));
        Registry { workers, numbers, fingerprint }
    })
}

/// Returns a number that differs between programs with different workers.
pub(super) fn fingerprint() -> u64 {
    registry().fingerprint
}

/// Returns the number of a worker, for [`find_number`] in another process of this program.
pub(super) fn number(worker: TypeId, name: &'static str) -> Result<u32, SpawnError> {
    registry().numbers.get(&worker).copied().ok_or_else(|| why_not(worker, name))
}

#[cold]
fn why_not(worker: TypeId, name: &'static str) -> SpawnError {
    let all = &registry().workers;
    let own = all.iter().find(|(_, entry)| (entry.type_id)() == worker);
    let namesake = own.and_then(|(own_key, own)| {
        let is_namesake = |entry: &Registration| (entry.type_id)() != worker;
        all.iter()
            .find(|(key, entry)| key == own_key && is_namesake(entry))
            .map(|other| (own, other))
    });
    match namesake {
        // Even their places are the same: a macro made both.
        Some((own, (_, other))) => {
            SpawnError::DuplicateWorker { name, first: own.place(), second: other.place() }
        }
        None => SpawnError::NotRegistered { worker: name },
    }
}

/// Returns the key by which a child will find the worker.
pub(super) fn key(worker: TypeId, name: &'static str) -> Result<&'static str, SpawnError> {
    let number = number(worker, name)?;
    Ok(&registry().workers[number as usize].0)
}

/// Returns the worker with this key. A child asks once, so it would not pay to build the registry.
fn by_key(key: &str) -> Option<&'static Registration> {
    let mut all = inventory::iter::<Registration>.into_iter();
    all.find(|worker| match key.strip_prefix((worker.name)()) {
        Some("") => true,
        Some(_) => worker.key_with_place() == key,
        None => false,
    })
}

/// Returns the actor type that the worker with this key runs, if it runs one.
pub(crate) fn actor_of(key: &str) -> Option<&'static str> {
    (by_key(key)?.actor)()
}

/// Returns how to run the worker with this key.
pub(super) fn find(key: &str) -> Option<RunWorker> {
    by_key(key).map(|worker| worker.run)
}

/// Returns how to perform the worker with this number as a task.
pub(crate) fn find_number(number: u32) -> Option<Perform> {
    let (_, registration) = registry().workers.get(number as usize)?;
    Some(registration.perform)
}
