//! What an operator sets on a database.

/// Settings of a store on a database.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for the index and for blocks read lately.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    /// 16 MiB of cache.
    fn default() -> Self {
        Self { cache_bytes: 16 << 20 }
    }
}

impl StoreOptions {
    /// The same options, with `bytes` of cache.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}
