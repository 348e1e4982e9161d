//! IPNS: only what the key signed is believed, whatever stands around it.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use lightstreams_store::{IpnsEntry, IpnsName, IpnsRecord};

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// The record of seeds.rs.
static RECORD: LazyLock<IpnsRecord> = LazyLock::new(|| {
    let entry = IpnsEntry {
        value: (&b"/ipfs/bafkqaaa"[..]).into(),
        sequence: 3,
        validity: NOW,
        ttl: Duration::from_secs(300),
    };
    IpnsRecord::create(&[7; 32], entry, true).expect("a record")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = IpnsRecord::verify(RECORD.name(), data.to_vec(), NOW) {
        assert_eq!(record.entry(), RECORD.entry(), "nobody else has the key");
    }
    if let Some(name) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<IpnsName>().ok()) {
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(IpnsName::try_from(&name.cid()), Ok(name));
        let _ = IpnsRecord::verify(&name, RECORD.bytes().clone(), NOW);
    }
});
