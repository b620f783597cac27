//! A bounded memory of what was found valid.

use crate::hash::Digest;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Entries of a generation; at most two generations are held, about 40 bytes an entry.
pub const GENERATION_MAX: usize = 32_768;

/// A set of 32-byte values that forgets the oldest ones: what is asked for stays, what is not goes.
#[derive(Default)]
pub struct Remembered(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

impl Remembered {
    /// Whether `value` was inserted and is not forgotten yet.
    #[must_use]
    pub fn contains(&self, value: &Digest) -> bool {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.contains(value) {
            return true;
        }
        let found = generations.old.contains(value);
        if found {
            generations.insert(*value);
        }
        found
    }

    /// Remembers `values`.
    pub fn extend(&self, values: impl IntoIterator<Item = Digest>) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            generations.insert(value);
        }
    }
}

impl Generations {
    fn insert(&mut self, value: Digest) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn l23_the_memory_is_bounded_and_keeps_what_is_used() {
        let memory = Remembered::default();
        let used = sha256(b"used");
        memory.extend([used]);
        for number in 0..4 * GENERATION_MAX as u64 {
            memory.extend([sha256(&number.to_be_bytes())]);
            if number % 1000 == 0 {
                assert!(memory.contains(&used));
            }
        }
        let generations = memory.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
        drop(generations);
        assert!(!memory.contains(&sha256(&0u64.to_be_bytes())));
    }
}
