//! Manifests, key release, receipts, kept headers and the content index of the block gate.
