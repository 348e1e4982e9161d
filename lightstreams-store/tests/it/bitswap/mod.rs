//! Bitswap: its bytes, and what peers, honest and other, make of it over real sockets.

mod bytes;
#[cfg(feature = "tls")]
mod encryption;
mod faults;
mod fetch;
mod helia;
#[cfg(feature = "kad")]
mod kad;
mod killed;
mod kubo;
mod net;
mod serve;
mod several;
mod things;
