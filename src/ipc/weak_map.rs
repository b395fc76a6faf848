//! A registry of objects that others own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::sys::lock;
use crate::sys::threads::Mutex;

/// Finds an object by its key for as long as the object is in use, so that each object is made only
/// once.
#[derive(Debug)]
pub(crate) struct WeakMap<K, V: ?Sized>(Mutex<BTreeMap<K, Weak<V>>>);

impl<K: Ord, V: ?Sized> WeakMap<K, V> {
    pub(crate) const fn new() -> WeakMap<K, V> {
        WeakMap(Mutex::new(BTreeMap::new()))
    }

    /// Returns the object with this key. Makes it first if there is none.
    ///
    /// `make` runs under the map's lock, so a thread that asks for the same key at the same time
    /// waits for it instead of making a second object.
    pub(crate) fn get_or_try_insert<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, E> {
        self.get_or_try_replace(key, |_| false, make)
    }

    /// Like [`get_or_try_insert`](Self::get_or_try_insert), but does not return an object that
    /// `is_over`, even if it is in use.
    pub(crate) fn get_or_try_replace<E>(
        &self,
        key: K,
        is_over: impl FnOnce(&V) -> bool,
        make: impl FnOnce() -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, E> {
        // Declared before the guard, so dropped after it: an object that ends removes its key.
        let over: Option<Arc<V>>;
        let mut objects = lock(&self.0);
        over = objects.get(&key).and_then(Weak::upgrade);
        if let Some(object) = over.as_ref().filter(|object| !is_over(object)) {
            return Ok(object.clone());
        }
        forget_ended(&mut objects);
        let object = make()?;
        objects.insert(key, Arc::downgrade(&object));
        Ok(object)
    }

    /// Returns the object with this key, if it is alive.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        lock(&self.0).get(key)?.upgrade()
    }

    /// Sets the object with this key, and forgets all that are gone.
    pub(crate) fn insert(&self, key: K, object: Weak<V>) {
        let mut objects = lock(&self.0);
        forget_ended(&mut objects);
        objects.insert(key, object);
    }

    pub(crate) fn remove(&self, key: &K) {
        lock(&self.0).remove(key);
    }

    /// Removes the key of an object that has ended, unless another object has taken the key.
    pub(crate) fn remove_ended(&self, key: &K) {
        let mut objects = lock(&self.0);
        if objects.get(key).is_some_and(|object| object.strong_count() == 0) {
            objects.remove(key);
        }
    }

    /// Returns all objects that are alive, in the order of their keys.
    pub(crate) fn values(&self) -> Vec<Arc<V>> {
        lock(&self.0).values().filter_map(Weak::upgrade).collect()
    }
}

/// Not a closure in the methods above: it would be compiled for each of their closures.
fn forget_ended<K: Ord, V: ?Sized>(objects: &mut BTreeMap<K, Weak<V>>) {
    objects.retain(|_, object| object.strong_count() > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_as_long_as_it_lives() {
        let map = WeakMap::new();
        let make = |value| move || Ok::<_, ()>(Arc::new(value));
        let one = map.get_or_try_insert(1, make("one")).unwrap();
        assert!(Arc::ptr_eq(&one, &map.get_or_try_insert(1, make("another")).unwrap()));
        assert_eq!(map.get_or_try_insert(2, || Err("none")), Err("none"));
        assert_eq!(map.values(), std::slice::from_ref(&one));
        drop(one);
        assert_eq!(map.get(&1), None);
        assert_eq!(*map.get_or_try_insert(1, make("another")).unwrap(), "another");
        assert_eq!(lock(&map.0).len(), 1);
    }

    #[test]
    fn an_object_that_is_over_is_replaced_even_if_it_is_in_use() {
        let map = WeakMap::new();
        let make = |value| move || Ok::<_, ()>(Arc::new(value));
        let first = map.get_or_try_insert(1, make("first")).unwrap();
        let second = map.get_or_try_replace(1, |&now| now == "first", make("second")).unwrap();
        assert_eq!((*first, *second), ("first", "second"));
        drop(first);
        map.remove_ended(&1);
        let again = map.get_or_try_replace(1, |&now| now == "first", make("third")).unwrap();
        assert!(Arc::ptr_eq(&second, &again));
    }

    #[test]
    fn the_late_end_of_one_object_does_not_remove_the_next() {
        let map = WeakMap::new();
        let first = Arc::new("first");
        map.insert(1, Arc::downgrade(&first));
        drop(first);
        let second = Arc::new("second");
        map.insert(1, Arc::downgrade(&second));
        map.remove_ended(&1);
        assert_eq!(map.get(&1), Some(second.clone()));
        drop(second);
        map.remove_ended(&1);
        assert!(lock(&map.0).is_empty());
    }
}
