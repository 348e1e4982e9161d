//! Armor: any split of the input reads the same, and what is sound has one canonical form.

#![no_main]

use std::io::{BufReader, Read, Write};

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{ArmorReader, ArmorWriter, Error, MaybeArmored};

fuzz_target!(|data: &[u8]| {
    let whole = read(ArmorReader::new(data));
    let split = read(ArmorReader::new(BufReader::with_capacity(7, data)));
    match (&whole, &split) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        _ => panic!("{whole:?} and {split:?}"),
    }
    let found = read(MaybeArmored::new(data));
    if let Ok(plain) = &whole {
        assert_eq!(found.as_ref().expect("sound armor is found to be armor"), plain);
        let mut writer = ArmorWriter::new(Vec::new());
        writer.write_all(plain).expect("memory");
        let armored = writer.finish().expect("memory");
        assert_eq!(&read(ArmorReader::new(&armored[..])).expect("what is written is read"), plain);
    }

    // Any bytes survive the way there and back.
    let mut writer = ArmorWriter::new(Vec::new());
    for part in data.chunks(13) {
        writer.write_all(part).expect("memory");
    }
    let armored = writer.finish().expect("memory");
    assert_eq!(read(ArmorReader::new(&armored[..])).expect("what is written is read"), data);
});

fn read(mut reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    reader.read_to_end(&mut plain)?;
    Ok(plain)
}
