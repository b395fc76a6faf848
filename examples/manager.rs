//! Objects that live in one process and are used by others. In Python: `Manager`, with its `dict`
//! and `list`.

use std::collections::BTreeMap;
use std::error::Error;

struct Manager {
    dict: BTreeMap<String, String>,
    list: Vec<i64>,
}

#[offspring::actor]
impl Manager {
    fn start(list: Vec<i64>) -> Self {
        let dict = BTreeMap::new();
        Manager { dict, list }
    }

    /// Sets an entry of the dictionary. Returns the old value.
    pub fn set(&mut self, key: String, value: String) -> Option<String> {
        self.dict.insert(key, value)
    }

    /// Returns a copy of the dictionary.
    pub fn dict(&self) -> BTreeMap<String, String> {
        self.dict.clone()
    }

    /// Reverses the list. The caller does not wait.
    #[cast]
    pub fn reverse(&mut self) {
        self.list.reverse();
    }

    /// Returns a copy of the list.
    pub fn list(&self) -> Vec<i64> {
        self.list.clone()
    }
}

#[offspring::worker]
fn f(manager: ManagerHandle) {
    let entries = [("1", "one"), ("2", "two"), ("0.25", "none")];
    for (key, value) in entries {
        manager.set(key.to_owned(), value.to_owned()).expect("the manager is running");
    }
    manager.reverse().expect("the manager is running");
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let manager = Manager::spawn((0..10).collect())?;
    f::spawn(manager.address())?.join()?;
    println!("{:?}", manager.dict()?);
    println!("{:?}", manager.list()?);
    Ok(())
}
