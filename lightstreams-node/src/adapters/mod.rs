//! The seams of the libraries, filled by this node.
