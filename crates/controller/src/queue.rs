//! Keys that wait for their turn: each once, in the order in which they came.

use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    order: VecDeque<K>,
    waiting: BTreeSet<K>,
}

impl<K> Default for Queue<K> {
    fn default() -> Queue<K> {
        Queue { order: VecDeque::new(), waiting: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Lets the key wait, unless it does already.
    pub fn push(&mut self, key: K) {
        if self.waiting.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    /// The key that has waited longest.
    pub fn pop(&mut self) -> Option<K> {
        let key = self.order.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True while no key waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_once_and_may_come_again_after_its_turn() {
        let mut q = Queue::default();
        for key in ["b", "a", "b"] {
            q.push(key);
        }
        assert_eq!((q.pop(), q.pop(), q.pop()), (Some("b"), Some("a"), None));
        q.push("b");
        assert!(!q.is_empty());
        assert_eq!(q.pop(), Some("b"));
    }
}
