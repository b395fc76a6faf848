//! The workers of this program, found by name, because the address of a function is not valid in
//! another process.

use std::any::TypeId;
use std::collections::HashMap;
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
    by_name: HashMap<&'static str, &'static Registration>,
    /// Sorted by name, so that a worker has the same index in all processes of the program. The
    /// index is its number.
    numbered: Vec<(&'static str, &'static Registration)>,
    duplicate: Option<(&'static str, String, String)>,
    fingerprint: u64,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let mut by_name: HashMap<&'static str, &'static Registration> = HashMap::new();
        let mut duplicate = None;
        let mut fingerprint =
            wire::fingerprint(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")));
        for registration in inventory::iter::<Registration> {
            let name = (registration.name)();
            match by_name.insert(name, registration) {
                None => {
                    // A sum, because the linker chooses the order of the registrations.
                    let entry = format!("{name} {:?}", registration.layout);
                    fingerprint = fingerprint.wrapping_add(wire::fingerprint(&entry));
                }
                Some(earlier) if (earlier.type_id)() != (registration.type_id)() => {
                    duplicate = Some((name, earlier.place(), registration.place()));
                }
                Some(_) => {}
            }
        }
        let mut numbered: Vec<(&'static str, &'static Registration)> =
            by_name.iter().map(|(name, worker)| (*name, *worker)).collect();
        numbered.sort_unstable_by_key(|&(name, _)| name);
        Registry { by_name, numbered, duplicate, fingerprint }
    })
}

/// Returns a number that differs between programs with different workers.
pub(super) fn fingerprint() -> u64 {
    registry().fingerprint
}

/// Checks that a child will find the worker with this name.
pub(super) fn check(name: &'static str) -> Result<(), SpawnError> {
    let registry = registry();
    if let Some((name, first, second)) = &registry.duplicate {
        return Err(SpawnError::DuplicateWorker {
            name,
            first: first.clone(),
            second: second.clone(),
        });
    }
    if registry.by_name.contains_key(name) {
        Ok(())
    } else {
        Err(SpawnError::NotRegistered { worker: name })
    }
}

/// Returns the actor type that the worker with this name runs, if it runs one.
pub(crate) fn actor_of(name: &str) -> Option<&'static str> {
    let registration = registry().by_name.get(name)?;
    (registration.actor)()
}

/// Returns how to run the worker with this name.
pub(super) fn find(name: &str) -> Option<RunWorker> {
    // A child asks once, so it would not pay to build the map.
    let mut all = inventory::iter::<Registration>.into_iter();
    all.find(|registration| (registration.name)() == name).map(|registration| registration.run)
}

/// Returns the number of the worker with this name, for [`find_number`] in another process of this
/// program.
pub(super) fn number(name: &'static str) -> Result<u32, SpawnError> {
    check(name)?;
    let number = registry().numbered.binary_search_by_key(&name, |&(name, _)| name);
    number.map(|number| number as u32).map_err(|_| SpawnError::NotRegistered { worker: name })
}

/// Returns how to perform the worker with this number as a task.
pub(crate) fn find_number(number: u32) -> Option<Perform> {
    let (_, registration) = registry().numbered.get(number as usize)?;
    Some(registration.perform)
}
