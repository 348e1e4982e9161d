//! TLS 1.3 between peers, as IPFS's speak it (libp2p specs, `tls/tls.md`), by the cipher that the processor has.
//!
//! Certificates and what is asked of them are libp2p's, the protocol is that of rustls. A peer that dials says which cipher it likes
//! best, and rust-libp2p says ChaCha20-Poly1305, which costs six times what AES-GCM does where the processor has it; so does Noise,
//! which has no other.

use std::{
    error::Error,
    io, iter,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    future::BoxFuture,
    io::{BufReader, BufWriter},
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    tls::{certificate, make_server_config},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, NoKeyLog, PeerIncompatible, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::{cipher_suite, default_provider},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::transport::{READ_BYTES, SENT_FRAME_BYTES};

/// TLS 1.3, the encryption of a connection.
///
/// AES-GCM where the processor has it and the peer too, else ChaCha20-Poly1305. With a peer that knows it, as another of these does, keys
/// are agreed by X25519MLKEM768, so that who keeps what was sent cannot read it with a quantum computer later. Put before
/// [`Noise`](super::Noise), it is spoken with whom speaks it, as Kubo does, and Noise with the others:
///
/// ```
/// use libp2p::{SwarmBuilder, tcp};
/// use lightstreams_store::p2p::{Noise, Tls, Yamux};
/// # #[derive(libp2p::swarm::NetworkBehaviour)]
/// # struct Behaviour { ping: libp2p::ping::Behaviour }
/// let swarm = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), (Tls::new, Noise::new), Yamux::default)?
///     .with_behaviour(|_| Behaviour { ping: Default::default() })?
///     .build();
/// # drop(swarm);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why there is no TLS under an identity: it signed no certificate.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for TLS")]
pub struct TlsError(#[source] Box<dyn Error + Send + Sync>);

impl TlsError {
    fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl Tls {
    /// The encryption under which we prove to be `identity`, by certificates that are made here and last as long as this value.
    pub fn new(identity: &Keypair) -> Result<Self, TlsError> {
        let mut server = make_server_config(identity).map_err(TlsError::new)?;
        // libp2p's would write keys to a file that the environment names.
        server.key_log = Arc::new(NoKeyLog);
        Ok(Self { server: Arc::new(server), client: Arc::new(client(identity)?) })
    }
}

fn client(identity: &Keypair) -> Result<ClientConfig, TlsError> {
    let (certificate, key) = certificate::generate(identity).map_err(TlsError::new)?;
    let mut provider = default_provider();
    provider.cipher_suites = cipher_suites();
    let key = provider.key_provider.load_private_key(key).map_err(TlsError::new)?;
    let certified = CertifiedKey::new(vec![certificate], key);
    let mut client = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::new)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    client.alpn_protocols = vec![b"libp2p".to_vec()];
    Ok(client)
}

/// Those of TLS 1.3 (RFC 8446, section B.4), the quickest first.
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    let mut suites = vec![
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        suites.rotate_right(1);
    }
    suites
}

/// Whether the processor has AES, and the multiplication that GCM needs.
fn has_aes() -> bool {
    cfg_select! {
        target_arch = "x86_64" => is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq"),
        target_arch = "aarch64" => is_aarch64_feature_detected!("aes") && is_aarch64_feature_detected!("pmull"),
        _ => false,
    }
}

/// Asks of a listener's certificate what libp2p does: that it is one, signed by itself and by the peer that it names.
#[derive(Debug)]
struct Verifier;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        certificate::parse(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(cert)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/tls/1.0.0")
    }
}

type Secured<T> = BufWriter<TlsStream<BufReader<T>>>;

/// The peer, by its certificate, which the handshake verified; and its connection, on which a frame's header and body go at once.
fn secured<T: AsyncRead + AsyncWrite + Unpin>(
    stream: TlsStream<BufReader<T>>,
) -> io::Result<(PeerId, Secured<T>)> {
    let wrong = |error: Box<dyn Error + Send + Sync>| io::Error::new(io::ErrorKind::InvalidData, error);
    let Some([end_entity]) = stream.get_ref().1.peer_certificates() else {
        return Err(wrong("the peer did not show one certificate".into()));
    };
    let peer = certificate::parse(end_entity).map_err(|error| wrong(error.into()))?.peer_id();
    Ok((peer, BufWriter::with_capacity(SENT_FRAME_BYTES, stream)))
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<T> for Tls {
    type Output = (PeerId, Secured<T>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: T, _: Self::Info) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move { secured(TlsAcceptor::from(self.server).accept(socket).await?.into()) }.boxed()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<T> for Tls {
    type Output = (PeerId, Secured<T>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: T, _: Self::Info) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move { secured(TlsConnector::from(self.client).connect(no_name(), socket).await?.into()) }
            .boxed()
    }
}

/// Peers have no names; an address is not sent as one (RFC 6066, section 3).
fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, Connection, NamedGroup, ServerConnection};

    use super::*;

    /// Shakes hands without a network; an error is that of who refused.
    fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<[Connection; 2], rustls::Error> {
        let client = ClientConnection::new(client, no_name())?;
        let mut ends = [Connection::from(client), Connection::from(ServerConnection::new(server)?)];
        while ends.iter().any(|end| end.is_handshaking()) {
            for (from, to) in [(0, 1), (1, 0)] {
                let mut sent = Vec::new();
                while ends[from].wants_write() {
                    ends[from].write_tls(&mut sent).unwrap();
                }
                let mut sent = &sent[..];
                while !sent.is_empty() {
                    ends[to].read_tls(&mut sent).unwrap();
                    ends[to].process_new_packets()?;
                }
            }
        }
        Ok(ends)
    }

    fn suite(end: &Connection) -> SupportedCipherSuite {
        end.negotiated_cipher_suite().unwrap()
    }

    #[test]
    fn peers_of_this_kind_take_the_quickest_cipher_and_agree_on_keys_that_last() {
        let [dialer, listener] = [(); 2].map(|()| Keypair::generate_ed25519());
        let (dials, listens) = (Tls::new(&dialer).unwrap(), Tls::new(&listener).unwrap());
        let ends = shake(dials.client, listens.server).unwrap();
        let quickest = match has_aes() {
            true => cipher_suite::TLS13_AES_256_GCM_SHA384,
            false => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        };
        for (end, peer) in ends.iter().zip([&listener, &dialer]) {
            assert_eq!(suite(end), quickest);
            assert_eq!(end.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
            let [certificate] = end.peer_certificates().unwrap() else { panic!("one certificate") };
            assert_eq!(certificate::parse(certificate).unwrap().peer_id(), peer.public().to_peer_id());
        }
    }

    #[test]
    fn a_dialer_made_with_libp2p_alone_has_its_own_choice() {
        let [dialer, listener] = [(); 2].map(|()| Keypair::generate_ed25519());
        let dials = libp2p::tls::make_client_config(&dialer, None).unwrap();
        let ends = shake(Arc::new(dials), Tls::new(&listener).unwrap().server).unwrap();
        assert!(ends.iter().all(|end| suite(end) == cipher_suite::TLS13_CHACHA20_POLY1305_SHA256));
    }

    #[test]
    fn a_listener_is_believed_only_with_one_certificate_as_its_peer_signed_it() {
        let peer = Keypair::generate_secp256k1();
        let (certificate, _) = certificate::generate(&peer).unwrap();
        let now = UnixTime::now();
        let verify = |shown: &CertificateDer<'_>, others: &[CertificateDer<'_>]| {
            Verifier.verify_server_cert(shown, others, &no_name(), &[], now)
        };
        verify(&certificate, &[]).unwrap();
        verify(&certificate, std::slice::from_ref(&certificate)).unwrap_err();
        // What is signed follows the header of the whole, and has one of 4 bytes itself; the signature is last (RFC 5280, section 4.1).
        let signed_end = 8 + usize::from(u16::from_be_bytes([certificate[6], certificate[7]]));
        for at in (0..signed_end).chain(certificate.len() - 64..certificate.len()) {
            let mut other = certificate.to_vec();
            other[at] ^= 1;
            verify(&other.into(), &[]).expect_err(&format!("byte {at} is another"));
        }
    }

    #[test]
    fn a_handshake_signed_by_another_key_than_the_certificates_is_refused() {
        let [dialer, listener] = [(); 2].map(|()| Keypair::generate_ed25519());
        // What it shows is the listener's, what it signs with is not.
        let (shown, _) = certificate::generate(&listener).unwrap();
        let (_, key) = certificate::generate(&listener).unwrap();
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        let mut server = make_server_config(&listener).unwrap();
        server.cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![shown], key)));
        let refused = shake(Tls::new(&dialer).unwrap().client, Arc::new(server)).unwrap_err();
        assert_eq!(refused, CertificateError::BadSignature.into());
    }
}
