//! What was issued and is not in the store yet. It stays in the process's memory until a run has put it there.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the runs of this process could not write yet.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<Vec<T>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memory<T> {
    fn list(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.list().clone()
    }

    pub(super) fn find(&self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.list().iter().find(|item| is_wanted(item)).cloned()
    }

    pub(super) fn forget(&self, is_stored: impl Fn(&T) -> bool) {
        self.list().retain(|item| !is_stored(item));
    }

    /// Holds what was just issued.
    pub(super) const fn hold(&self, item: T) -> InMemory<'_, T> {
        InMemory { memory: self, item, is_done: false }
    }
}

/// An item that is not in the store yet. If it is dropped before [`Self::done`] (an error, a panic, a cancelled run), the item stays in
/// memory for the next run of this process.
pub(super) struct InMemory<'a, T: Clone> {
    memory: &'a Memory<T>,
    item: T,
    is_done: bool,
}

impl<T: Clone> InMemory<'_, T> {
    pub(super) const fn item(&self) -> &T {
        &self.item
    }

    /// The item is stored, or other tokens have replaced it.
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl<T: Clone> Drop for InMemory<'_, T> {
    fn drop(&mut self) {
        if !self.is_done {
            self.memory.list().push(self.item.clone());
        }
    }
}
