//! Client of a running node's private API.
