//! The whole story on loopback, told by child processes.
