//! How do the four libraries sell a file together?
//!
//! A publisher encrypts a film, stores it, registers it and lists it with two payees. A reader buys, gets the file key
//! wrapped to a key of its own, and opens the film; a stranger holds every block and opens nothing. The node does the
//! same over sockets; here it is one process, and each step is one call.

#[path = "support/mod.rs"]
mod support;

use std::{error::Error, io::Read};

use alloy_primitives::{Address, U256};
use lightstreams_acl::{
    AccessControl, At, B256, BlockRef, ContentId, ContentRegistry, Decision, Denial, Market, abi, content_id,
};
use lightstreams_chain::{BlockId, DEV_ACCOUNTS};
use lightstreams_crypto::{
    FileKey, Header, PayloadDecryptor, PayloadEncryptor, PayloadKey, PayloadNonce, X25519Identity,
    X25519Recipient, commitment, rewrap,
};
use lightstreams_node::{
    init::{MARKET, REGISTRY},
    vault::{Domain, Manifest, Metadata, Place, VersionInfo},
};
use lightstreams_store::{Block, BlockStore, EnvelopeChunker, FileBuilder, FileReader, MemoryStore};
use support::{CHAIN_ID, LocalNetwork, ether};

fn main() -> Result<(), Box<dyn Error>> {
    let rng = &mut rand::rng();
    let network = LocalNetwork::start()?;
    let [publisher, reader, stranger, author, studio, ..] = DEV_ACCOUNTS;
    let (registry, market) = (ContentRegistry::at(REGISTRY), Market::at(MARKET));
    let film: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();

    // Encrypt and store. The header wraps the key to the publisher alone.
    let (store, custody) = (MemoryStore::default(), X25519Identity::generate(rng));
    let (file_key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    let mut sealed = PayloadEncryptor::new(PayloadKey::derive(&file_key, &nonce), film.as_slice());
    let payload = FileBuilder::new(EnvelopeChunker::default()).import(&mut sealed, &store, &mut |_| {})?;
    let header = Block::raw(Header::wrap(&file_key, &[&custody.recipient()], rng)?.to_block(&nonce));
    println!("encrypted {} bytes into {} blocks under {}", film.len(), payload.blocks, payload.cid);

    // The manifest says what is where, and commits to the key at this place of this registry, and nowhere else.
    let salt = B256::new(rand::random());
    let content = content_id(CHAIN_ID, REGISTRY, publisher.address, salt);
    let place = Place { domain: Domain { chain_id: CHAIN_ID, registry: REGISTRY }, content };
    let version = VersionInfo { version: 1, epoch: 0, revision: 0 };
    let metadata = Metadata { name: "film.mp4".into(), media_type: "video/mp4".into(), ext: None };
    let mut manifest = Manifest {
        size: film.len() as u64,
        nonce: *nonce.as_bytes(),
        commitment: commitment(&file_key, &nonce, &place.ctx(version.epoch, version.version)),
        payload: payload.cid,
        header: *header.cid(),
        leaf_chunks: 4,
        version,
        previous: None,
        place,
        metadata: metadata.seal(&file_key, &nonce, &content, version.version, rng)?,
        card: None,
        author: publisher.address,
        sig: Vec::new(),
    };
    manifest.sig = publisher.signer()?.sign_digest(manifest.signing_hash())?.as_bytes().to_vec();
    store.put_many(&[header, manifest.to_block()])?;

    // Register, let the market write rows, and list: 70 percent to the author, 30 to the studio.
    let price = ether(1);
    let plan = abi::Market::Plan {
        token: Address::ZERO,
        duration: 0,
        supply: 0,
        price: price.to(),
        referrerBps: 0,
        payees: vec![payee(author.address, 7_000), payee(studio.address, 3_000)],
    };
    network.send(&publisher, &registry.register(salt, manifest.digest(), 0))?;
    network.send(&publisher, &registry.set_custody(content, vec![publisher.address]))?;
    network.send(&publisher, &registry.set_module(content, MARKET, true))?;
    network.send(&publisher, &market.list(content, plan))?;
    println!("registered and listed {content} for 1 ether");

    // Before the sale nobody is let in. A sale needs the price and the manifest that the buyer looked at.
    let one_time = X25519Identity::generate(rng);
    let keeper = Keeper { network: &network, store: &store, custody: &custody };
    let refused = keeper.release(&manifest, reader.address, &one_time.recipient())?;
    assert_eq!(refused.err(), Some(Denial::NotGranted));
    let offers = market.plans_of(content).run(&network.backend(), BlockRef::Head)?;
    let plan = *offers.first().ok_or("nothing is for sale")?;
    let buy = market.buy(plan, reader.address, price, None, manifest.digest()).with_value(price);
    let bought = network.send(&reader, &buy)?;
    println!("the reader bought plan {plan} in block {}", bought.transaction.block.number);

    // Release: the key, wrapped anew to the reader's one-time key. The reader checks that it is the key committed to.
    let released = keeper.release(&manifest, reader.address, &one_time.recipient())?;
    let released = released.map_err(|denial| format!("the buyer was refused: {denial}"))?;
    let key = Header::parse(&released)?.0.unwrap(&[&one_time])?;
    assert!(manifest.commits_to(&key));
    println!("released as an age header of {} bytes", released.len());

    // Open: only now there are a name and a film.
    let blocks = FileReader::open(&store, &manifest.payload)?;
    let mut opened = Vec::new();
    PayloadDecryptor::new(PayloadKey::derive(&key, &manifest.payload_nonce()), blocks)
        .read_to_end(&mut opened)?;
    assert_eq!(opened, film);
    println!("the reader opened {:?}, {} bytes", Metadata::open(&manifest, &key)?.name, opened.len());

    // The stranger has the blocks, too, and neither a permission nor a key. Registering the same manifest's key under
    // an id of its own does not help: the commitment is to another place.
    let refused = keeper.release(&manifest, stranger.address, &X25519Identity::generate(rng).recipient())?;
    assert_eq!(refused.err(), Some(Denial::NotGranted));
    let (own_header, _) = Header::parse_block(store.get(&manifest.header)?.ok_or("no header")?.data())?;
    assert!(own_header.unwrap(&[&X25519Identity::generate(rng)]).is_err());
    let own = content_id(CHAIN_ID, REGISTRY, stranger.address, salt);
    let copy = Manifest { place: Place { content: own, ..place }, ..manifest.clone() };
    assert!(!copy.commits_to(&file_key));
    println!("the stranger was refused, and its copy commits to no key");

    // Money waits to be fetched, and the shares add up.
    let purses = [Address::repeat_byte(0xa1), Address::repeat_byte(0xa2)];
    network.send(&author, &market.withdraw(Address::ZERO, purses[0]))?;
    network.send(&studio, &market.withdraw(Address::ZERO, purses[1]))?;
    let state = network.chain.state(BlockId::Latest)?;
    let shares = [state.balance(purses[0])?, state.balance(purses[1])?];
    println!("paid out {} and {} wei", shares[0], shares[1]);
    assert_eq!(shares, [price * U256::from(7) / U256::from(10), price * U256::from(3) / U256::from(10)]);
    assert_eq!(market.total_owed(Address::ZERO).run(&network.backend(), BlockRef::Head)?, U256::ZERO);
    Ok(())
}

/// Who holds the publisher's key and asks the chain before every use of it.
struct Keeper<'a> {
    network: &'a LocalNetwork,
    store: &'a MemoryStore,
    custody: &'a X25519Identity,
}

impl Keeper<'_> {
    /// The key of `manifest` as an age header for `recipient`, if `reader` may read at the final block; or why not.
    fn release(
        &self,
        manifest: &Manifest,
        reader: Address,
        recipient: &X25519Recipient,
    ) -> Result<Result<Vec<u8>, Denial>, Box<dyn Error>> {
        let content: ContentId = manifest.place.content;
        match self.network.access().decide(content, reader, At::block(BlockRef::Final))? {
            Decision::Deny(denial) => Ok(Err(denial)),
            Decision::Allow { .. } => {
                let header = self.store.get(&manifest.header)?.ok_or("the header block is not here")?;
                let (header, _) = Header::parse_block(header.data())?;
                let header = rewrap(&header, &[self.custody], &[recipient], &mut rand::rng())?;
                Ok(Ok(header.as_bytes().to_vec()))
            }
        }
    }
}

fn payee(account: Address, bps: u16) -> abi::Market::Payee {
    abi::Market::Payee { account, bps }
}
