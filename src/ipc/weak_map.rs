//! A registry of objects that others own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::sys::lock;

/// Finds an object by its key for as long as somebody holds it, so that each is made only once.
#[derive(Debug)]
pub(crate) struct WeakMap<K, V: ?Sized>(Mutex<BTreeMap<K, Weak<V>>>);

impl<K: Ord, V: ?Sized> WeakMap<K, V> {
    pub(crate) const fn new() -> WeakMap<K, V> {
        WeakMap(Mutex::new(BTreeMap::new()))
    }

    /// Returns the object with this key, and makes it first if there is none.
    ///
    /// `make` runs under the map's lock: a thread that asks for the same key meanwhile waits for it
    /// instead of making a second object.
    pub(crate) fn get_or_try_insert<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, E> {
        let mut objects = lock(&self.0);
        if let Some(object) = objects.get(&key).and_then(Weak::upgrade) {
            return Ok(object);
        }
        objects.retain(|_, object| object.strong_count() > 0);
        let object = make()?;
        objects.insert(key, Arc::downgrade(&object));
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_as_long_as_it_lives() {
        let map = WeakMap::new();
        let make = |value| move || Ok::<_, ()>(Arc::new(value));
        let one = map.get_or_try_insert(1, make("one")).unwrap();
        assert!(Arc::ptr_eq(
            &one,
            &map.get_or_try_insert(1, make("another")).unwrap()
        ));
        assert_eq!(map.get_or_try_insert(2, || Err("none")), Err("none"));
        drop(one);
        assert_eq!(
            *map.get_or_try_insert(1, make("another")).unwrap(),
            "another"
        );
        assert_eq!(lock(&map.0).len(), 1);
    }
}
