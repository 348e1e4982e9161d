//! A bounded map that forgets the oldest entry first.

use std::collections::{HashMap, VecDeque};

use alloy_primitives::B256;

#[derive(Debug)]
pub(super) struct Cache<V> {
    entries: HashMap<B256, V>,
    order: VecDeque<B256>,
    max: usize,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max }
    }

    pub(super) fn get(&self, key: &B256) -> Option<V> {
        self.entries.get(key).cloned()
    }

    pub(super) fn insert(&mut self, key: B256, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}
