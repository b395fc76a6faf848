//! Counts for the feature `metrics`. Without the feature, a [`Tally`] is empty, and counting costs
//! nothing.
//!
//! A tally belongs to a name, not to an object: objects with the same name share it, and it
//! outlives them. So its count never falls, as a metric counter requires.

#[cfg(feature = "metrics")]
use std::collections::BTreeMap;
#[cfg(feature = "metrics")]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "metrics")]
use std::sync::{Arc, Mutex};

/// A count that only grows. The default counts nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    #[cfg(feature = "metrics")]
    count: Option<Arc<AtomicU64>>,
}

/// What is counted: the name of the metric, and the values of its labels.
#[cfg(feature = "metrics")]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TallyKey {
    pub(crate) metric: &'static str,
    /// The name of the object.
    pub(crate) name: String,
    /// How the counted thing has ended.
    pub(crate) outcome: Option<&'static str>,
}

#[cfg(feature = "metrics")]
static TALLIES: Mutex<BTreeMap<TallyKey, Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

impl Tally {
    /// Returns the tally of this metric and name.
    #[allow(unused_variables, reason = "nothing is counted without the feature")]
    pub(crate) fn of(metric: &'static str, name: &str, outcome: Option<&'static str>) -> Tally {
        Tally {
            #[cfg(feature = "metrics")]
            count: Some(count_of(TallyKey { metric, name: name.to_owned(), outcome })),
        }
    }

    #[allow(unused_variables, reason = "nothing is counted without the feature")]
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        #[cfg(feature = "metrics")]
        if let Some(total) = &self.count {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(feature = "metrics")]
fn count_of(key: TallyKey) -> Arc<AtomicU64> {
    crate::sys::lock(&TALLIES).entry(key).or_default().clone()
}

/// All tallies.
#[cfg(feature = "metrics")]
pub(crate) fn all() -> Vec<(TallyKey, u64)> {
    let tallies = crate::sys::lock(&TALLIES);
    tallies.iter().map(|(key, count)| (key.clone(), count.load(Ordering::Relaxed))).collect()
}

/// Returns the name of an actor without the number of a default name: `Counter` for `Counter-7`.
pub(crate) fn without_number(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((kind, number))
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            kind
        }
        _ => name,
    }
}
