//! Content URIs: one way to write them, and nothing else is read.

use lightstreams_acl::{Address, B256, ContentId, ContentUri, UriError};

const REGISTRY: &str = "0x00000000000000000000000000000000000000ab";
const CONTENT: &str = "0x00000000000000000000000000000000000000000000000000000000000000cd";

fn uri(version: Option<u32>) -> ContentUri {
    let content = ContentId(B256::with_last_byte(0xcd));
    ContentUri { chain: 161, registry: Address::with_last_byte(0xab), content, version }
}

#[test]
fn a_uri_is_written_as_it_is_read() {
    for version in [None, Some(1), Some(u32::MAX)] {
        let text = uri(version).to_string();
        assert_eq!(text.parse(), Ok(uri(version)));
    }
    assert_eq!(uri(None).to_string(), format!("lightstreams:161/{REGISTRY}/{CONTENT}"));
    assert_eq!(uri(Some(2)).to_string(), format!("lightstreams:161/{REGISTRY}/{CONTENT}@2"));
}

#[test]
fn a_registry_is_read_in_any_case_and_a_content_id_in_lower_case_only() {
    let upper = format!("lightstreams:161/0x{}/{CONTENT}", REGISTRY[2..].to_uppercase());
    assert_eq!(upper.parse(), Ok(uri(None)));
    let upper = format!("lightstreams:161/{REGISTRY}/0x{}", CONTENT[2..].to_uppercase());
    assert_eq!(upper.parse::<ContentUri>(), Err(UriError::ContentId));
}

#[test]
fn everything_else_is_refused_and_the_place_is_named() {
    let cases = [
        ("", UriError::Scheme),
        ("ipfs:161/a/b", UriError::Scheme),
        ("lightstreams", UriError::Scheme),
        ("lightstreams:161", UriError::Parts),
        ("lightstreams:161/R", UriError::Parts),
        ("lightstreams:/R/C", UriError::Chain),
        ("lightstreams:0161/R/C", UriError::Chain),
        ("lightstreams:+161/R/C", UriError::Chain),
        ("lightstreams:-1/R/C", UriError::Chain),
        ("lightstreams:0xa1/R/C", UriError::Chain),
        ("lightstreams:18446744073709551616/R/C", UriError::Chain),
        ("lightstreams:161/R0/C", UriError::Registry),
        ("lightstreams:161/0xR/C", UriError::Registry),
        ("lightstreams:161//C", UriError::Registry),
        ("lightstreams:161/R/C0", UriError::ContentId),
        ("lightstreams:161/R/", UriError::ContentId),
        ("lightstreams:161/R/C/", UriError::ContentId),
        ("lightstreams:161/R/C ", UriError::ContentId),
        ("lightstreams:161/R/C@", UriError::Version),
        ("lightstreams:161/R/C@0", UriError::Version),
        ("lightstreams:161/R/C@01", UriError::Version),
        ("lightstreams:161/R/C@1.0", UriError::Version),
        ("lightstreams:161/R/C@4294967296", UriError::Version),
        ("lightstreams:161/R/C@1@2", UriError::Version),
    ];
    for (text, error) in cases {
        let text = text.replace('R', REGISTRY).replace('C', CONTENT);
        assert_eq!(text.parse::<ContentUri>(), Err(error), "{text}");
    }
}
