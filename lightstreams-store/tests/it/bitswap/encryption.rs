//! Connections are encrypted by what both ends speak, and are with whom was dialed.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    PeerId, Swarm, SwarmBuilder, noise, ping,
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts},
    tcp, tls, yamux,
};
use lightstreams_store::p2p::{Noise, Tls, Yamux};

use super::net::swarm;

type Pinging = Swarm<ping::Behaviour>;

fn pinging() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(10)))
}

const KINDS: [&str; 5] = ["both", "TLS", "Noise", "libp2p's TLS", "libp2p's Noise"];

/// A swarm that speaks what `kind` says.
fn kind(kind: &str) -> Pinging {
    macro_rules! of_libp2p {
        ($by:expr) => {
            SwarmBuilder::with_new_identity()
                .with_tokio()
                .with_tcp(tcp::Config::default(), $by, yamux::Config::default)
                .unwrap()
                .with_behaviour(|_| pinging())
                .unwrap()
                .build()
        };
    }
    match kind {
        "both" => swarm!((Tls::new, Noise::new), |_| pinging()),
        "TLS" => swarm!(Tls::new, |_| pinging()),
        "Noise" => swarm!(Noise::new, |_| pinging()),
        "libp2p's TLS" => of_libp2p!(tls::Config::new),
        _ => of_libp2p!(noise::Config::new),
    }
}

fn common(one: &str, other: &str) -> bool {
    let speaks = |kind: &str, what: &str| kind == "both" || kind.ends_with(what);
    ["TLS", "Noise"].iter().any(|what| speaks(one, what) && speaks(other, what))
}

/// Dials `listener`, or whoever `as_peer` says is there; the error if that fails, else what came when something had come to both.
async fn meet(
    dialer: &mut Pinging,
    listener: &mut Pinging,
    as_peer: Option<PeerId>,
) -> Result<(), DialError> {
    listener.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = listener.select_next_some().await {
            break address;
        }
    };
    let peer = as_peer.unwrap_or(*listener.local_peer_id());
    dialer.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
    let (mut dialer_heard, mut listener_heard) = (false, false);
    while !(dialer_heard && listener_heard) {
        tokio::select! {
            event = dialer.select_next_some() => match event {
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error),
                SwarmEvent::Behaviour(ping) => {
                    assert_eq!(ping.peer, *listener.local_peer_id());
                    dialer_heard |= ping.result.is_ok();
                }
                _ => {}
            },
            event = listener.select_next_some() => if let SwarmEvent::Behaviour(ping) = event {
                assert_eq!(ping.peer, *dialer.local_peer_id());
                listener_heard |= ping.result.is_ok();
            },
        }
    }
    Ok(())
}

#[tokio::test]
async fn peers_meet_if_there_is_an_encryption_that_both_speak() {
    for one in KINDS {
        for other in KINDS {
            let met = meet(&mut kind(one), &mut kind(other), None).await;
            assert_eq!(met.is_ok(), common(one, other), "{one} dials {other}: {met:?}");
        }
    }
}

#[tokio::test]
async fn who_is_not_the_peer_that_was_dialed_is_left() {
    for (one, other) in [("TLS", "both"), ("both", "libp2p's TLS"), ("Noise", "both")] {
        let expected = PeerId::random();
        let (mut dialer, mut listener) = (kind(one), kind(other));
        match meet(&mut dialer, &mut listener, Some(expected)).await {
            Err(DialError::WrongPeerId { obtained, .. }) => assert_eq!(obtained, *listener.local_peer_id()),
            met => panic!("{one} dials {other}: {met:?}"),
        }
    }
}
