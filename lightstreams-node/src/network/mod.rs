//! One libp2p swarm.
