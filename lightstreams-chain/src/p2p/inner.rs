//! The three protocols as one behaviour.

use libp2p::{request_response::Behaviour, swarm::NetworkBehaviour};

use super::{
    codec::Codec,
    message::{Ack, NewBlock, NewTransactions, Question, Reply},
};

#[derive(NetworkBehaviour)]
pub struct Inner {
    pub(super) sync: Behaviour<Codec<Question, Reply>>,
    pub(super) blocks: Behaviour<Codec<NewBlock, Ack>>,
    pub(super) transactions: Behaviour<Codec<NewTransactions, Ack>>,
}
