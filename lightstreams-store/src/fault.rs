//! What a decoder finds wrong.

use crate::LayoutError;

/// What is wrong with the bytes of a block, and at which of them.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) reason: &'static str,
}

pub(crate) fn fault<T>(at: usize, reason: &'static str) -> Result<T, Fault> {
    Err(Fault { at, reason })
}

impl From<Fault> for LayoutError {
    fn from(Fault { reason, .. }: Fault) -> Self {
        Self::Malformed { reason }
    }
}
