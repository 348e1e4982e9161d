//! A codec reads what has one form, and refuses the rest.

use std::{collections::BTreeMap, fs};

use cid::multibase::Base;
use lightstreams_store::{
    Block, Cid, Codec, HashFunction, Ipld, MAX_NESTING, exact_cid, parse_cid, testing::Seeded,
};

use crate::support::{json, vectors};

fn hex(text: &str) -> Vec<u8> {
    Base::Base16Lower.decode(text).unwrap()
}

#[track_caller]
fn refused(codec: Codec, bytes: &[u8], at: usize, reason: &str) {
    let error = codec.decode(bytes).expect_err("it must be refused");
    assert_eq!((error.at, error.reason), (at, reason));
    assert_eq!(codec.links(bytes), Err(error), "reading links is as strict");
}

#[track_caller]
fn same(codec: Codec, bytes: &[u8], value: Ipld) {
    assert_eq!(codec.decode(bytes), Ok(value.clone()));
    assert_eq!(codec.encode(&value).as_deref(), Ok(bytes));
}

fn deep(depth: usize) -> Ipld {
    (0..depth).fold(Ipld::Null, |value, _| Ipld::List(vec![value]))
}

#[test]
fn the_fixtures_of_ipld_read_and_write_in_every_codec() {
    let Some(folder) = vectors("ipld-codec-fixtures") else { return };
    let mut blocks = 0;
    for item in fs::read_dir(folder.join("fixtures")).unwrap() {
        let item = item.unwrap().path();
        if !item.is_dir() {
            continue;
        }
        let read: Vec<(Codec, Vec<u8>, Ipld)> = fs::read_dir(&item)
            .unwrap()
            .map(|file| {
                let path = file.unwrap().path();
                let cid = parse_cid(path.file_stem().unwrap().to_str().unwrap()).unwrap();
                let bytes = fs::read(&path).unwrap();
                let codec = Codec::from_code(cid.codec()).unwrap();
                let block = Block::from_cid(cid, bytes.clone()).unwrap();
                let value = codec.decode(block.data()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                (codec, bytes, value)
            })
            .collect();
        for (codec, bytes, value) in &read {
            assert_eq!(value, &read[0].2, "{}", item.display());
            for (_, _, other) in &read {
                assert_eq!(codec.encode(other).as_ref(), Ok(bytes), "{} as {codec}", item.display());
            }
            blocks += 1;
        }
    }
    println!("ipld-codec-fixtures: {blocks} blocks");
    assert!(blocks > 0);
}

#[test]
fn the_negative_fixtures_of_ipld_are_refused() {
    let Some(folder) = vectors("ipld-codec-fixtures") else { return };
    let folder = folder.join("negative-fixtures");
    let mut cases = 0;
    for (name, codec) in
        [("dag-cbor", Codec::DagCbor), ("dag-pb", Codec::DagPb), ("dag-json", Codec::DagJson)]
    {
        for way in ["decode", "encode"] {
            let Ok(files) = fs::read_dir(folder.join(name).join(way)) else { continue };
            for file in files {
                for case in json(file.unwrap().path()).as_array().unwrap() {
                    cases += 1;
                    if let Some(bytes) = case["hex"].as_str() {
                        assert!(codec.decode(&hex(bytes)).is_err(), "{case}");
                    } else {
                        let form = Codec::DagJson.decode(case["dag-json"].to_string().as_bytes()).unwrap();
                        assert!(codec.encode(&form).is_err(), "{case}");
                    }
                }
            }
        }
    }
    println!("ipld-codec-fixtures: {cases} refused");
    assert!(cases > 0);
}

#[test]
fn dag_cbor_has_one_form() {
    let codec = Codec::DagCbor;
    let cut = "the value is cut off";
    let short = "an integer or length is not written in its shortest form";
    for (bytes, at, reason) in [
        ("", 0, cut),
        ("18", 0, cut),
        ("6261", 0, cut),
        ("5b7fffffffffffffff", 0, cut),
        ("5bffffffffffffffff", 0, cut),
        ("8161", 1, cut),
        ("0000", 1, "bytes follow the value"),
        ("1817", 0, short),
        ("1900ff", 0, short),
        ("1a0000ffff", 0, short),
        ("1b00000000ffffffff", 0, short),
        ("3817", 0, short),
        ("580100", 0, short),
        ("780161", 0, short),
        ("980100", 0, short),
        ("1c", 0, "a length has a reserved form"),
        ("5f4100ff", 0, "a length is indefinite"),
        ("7f6161ff", 0, "a length is indefinite"),
        ("9f00ff", 0, "a length is indefinite"),
        ("bf616100ff", 0, "a length is indefinite"),
        ("ff", 0, "a break stands outside of an indefinite length"),
        ("f7", 0, "a simple value is neither null nor bool"),
        ("f0", 0, "a simple value is neither null nor bool"),
        ("f814", 0, "a simple value is neither null nor bool"),
        ("f93c00", 0, "a float has fewer than 64 bits"),
        ("fa3f800000", 0, "a float has fewer than 64 bits"),
        ("fb7ff8000000000000", 0, "a float is not a finite number"),
        ("fb7ff0000000000000", 0, "a float is not a finite number"),
        ("fbfff0000000000000", 0, "a float is not a finite number"),
        ("61ff", 0, "a text is not UTF-8"),
        ("c000", 0, "a tag is not 42"),
        ("d82b00", 0, "a tag is not 42"),
        ("d9d9f700", 0, "a tag is not 42"),
        ("d9002a4100", 0, short),
        ("d82a00", 0, "a link is no byte string"),
        ("d82a40", 0, "a link does not begin with a zero byte"),
        ("d82a4101", 0, "a link does not begin with a zero byte"),
        ("d82a4100", 0, "a link has a CID that cannot be read"),
        ("d82a46000155000000", 0, "a link has a CID that cannot be read"),
        ("d82a450002550000", 0, "a link has a CID that cannot be read"),
        ("a10000", 1, "a key is no text"),
        ("a1414100", 1, "a key is no text"),
        ("a2616100616101", 4, "a key is repeated or out of order"),
        ("a2616200616101", 4, "a key is repeated or out of order"),
        ("a262616100616201", 5, "a key is repeated or out of order"),
        ("9b7fffffffffffffff", 0, "a list or map is longer than its block"),
        ("bb7fffffffffffffff", 0, "a list or map is longer than its block"),
        ("83f6f6", 0, "a list or map is longer than its block"),
    ] {
        refused(codec, &hex(bytes), at, reason);
    }
    same(codec, &hex("1bffffffffffffffff"), Ipld::Integer(u64::MAX.into()));
    same(codec, &hex("3bffffffffffffffff"), Ipld::Integer(-(1i128 << 64)));
    for (bytes, value) in [
        ("17", 23),
        ("1818", 24),
        ("18ff", 255),
        ("190100", 256),
        ("19ffff", 0xffff),
        ("1a00010000", 0x1_0000),
        ("1affffffff", 0xffff_ffff),
        ("1b0000000100000000", 0x1_0000_0000),
        ("20", -1),
        ("37", -24),
        ("3818", -25),
    ] {
        same(codec, &hex(bytes), Ipld::Integer(value));
    }
    // Kubo keeps the sign too.
    same(codec, &hex("fb8000000000000000"), Ipld::Float(-0.0));
    same(codec, &hex("fb0000000000000000"), Ipld::Float(0.0));
    let keys = ["b", "c", "aa"].map(|key| (key.to_owned(), Ipld::Null));
    same(codec, &hex("a36162f66163f6626161f6"), Ipld::Map(keys.into()));
    same(codec, &hex("d82a450001550000"), Ipld::Link(parse_cid("bafkqaaa").unwrap()));
    assert!(codec.encode(&Ipld::Integer(1 << 64)).is_err());
    assert!(codec.encode(&Ipld::Float(f64::NAN)).is_err());
    assert!(codec.encode(&Ipld::List(vec![Ipld::Float(f64::INFINITY)])).is_err());
}

#[test]
fn nesting_is_bounded_in_every_codec() {
    for (codec, open) in [(Codec::DagCbor, &b"\x81"[..]), (Codec::DagJson, b"[")] {
        let value = deep(MAX_NESTING);
        let bytes = codec.encode(&value).unwrap();
        same(codec, &bytes, value);
        assert!(codec.encode(&deep(MAX_NESTING + 1)).is_err());
        let bytes = open.repeat(1 << 20);
        refused(codec, &bytes, MAX_NESTING, "the value is nested too deeply");
    }
    let maps = b"{\"/\":".repeat(1 << 18);
    refused(Codec::DagJson, &maps, 5 * MAX_NESTING, "the value is nested too deeply");
}

#[test]
fn dag_json_reads_what_is_json_and_nothing_else() {
    let codec = Codec::DagJson;
    let reserved = "a map with the key / is neither a link nor bytes";
    for (text, at, reason) in [
        ("", 0, "the value is cut off"),
        (" ", 1, "the value is cut off"),
        ("[", 1, "the value is cut off"),
        ("[1", 2, "a list or map goes on without a comma, or is cut off"),
        ("[1,", 3, "the value is cut off"),
        ("[1,]", 3, "this is no value"),
        ("[,1]", 1, "this is no value"),
        ("{", 1, "a key is no text"),
        ("{\"a\"}", 4, "a colon is missing"),
        ("{\"a\":1,}", 7, "a key is no text"),
        ("{1:1}", 1, "a key is no text"),
        ("[1 2]", 3, "a list or map goes on without a comma, or is cut off"),
        ("[1}", 2, "a list or map goes on without a comma, or is cut off"),
        ("1 2", 2, "bytes follow the value"),
        ("nul", 0, "this is no value"),
        ("NaN", 0, "this is no value"),
        ("-", 0, "a number is malformed"),
        ("01", 0, "a number is malformed"),
        ("1.", 0, "a number is malformed"),
        ("1e", 0, "a number is malformed"),
        ("+1", 0, "this is no value"),
        (".5", 0, "this is no value"),
        ("1e999", 0, "a float is not a finite number"),
        ("18446744073709551616", 0, "an integer exceeds 64 bits"),
        ("999999999999999999999999999999999999999999", 0, "an integer exceeds 64 bits"),
        ("\"", 0, "a text is cut off"),
        ("\"\n\"", 1, "a control character stands in a text"),
        ("\"\\x\"", 1, "an escape is malformed"),
        ("\"\\u12\"", 1, "an escape is malformed"),
        ("\"\\u+123\"", 1, "an escape is malformed"),
        ("\"\\ud800\"", 1, "an escape is malformed"),
        ("\"\\udc00\"", 1, "an escape is malformed"),
        ("\"\\ud800\\u0041\"", 1, "an escape is malformed"),
        ("{\"a\":1,\"a\":2}", 7, "a key is repeated"),
        ("{\"a\":1,\"\\u0061\":2}", 7, "a key is repeated"),
        ("{\"/\":\"x\"}", 0, "a link has a CID that cannot be read"),
        ("{\"/\":\"/ipfs/bafkqaaa\"}", 0, "a link has a CID that cannot be read"),
        ("{\"/\":\"bafkqaaa\",\"a\":1}", 15, reserved),
        ("{\"a\":1,\"/\":\"bafkqaaa\"}", 7, reserved),
        ("{\"/\":{\"bytes\":\"AQ\",\"a\":1}}", 18, reserved),
        ("{\"/\":{\"bytes\":\"AQ\"},\"a\":1}", 19, reserved),
        ("{\"a\":1,\"/\":{\"bytes\":\"AQ\"}}", 7, reserved),
        ("{\"/\":{\"bytes\":\"A\"}}", 0, "bytes are not base64"),
        ("{\"/\":{\"bytes\":\"AR\"}}", 0, "bytes are not base64"),
        ("{\"/\":{\"bytes\":\"-_\"}}", 0, "bytes are not base64"),
    ] {
        assert_eq!(codec.decode(text.as_bytes()).map_err(|e| (e.at, e.reason)), Err((at, reason)), "{text}");
    }
    refused(codec, b"[\xff]", 1, "the text is not UTF-8");
    let spaced = " { \"b\" : [ ] , \"a\" : { \"/\" : { \"bytes\" : \"AQID\" } } } ";
    let value = codec.decode(spaced.as_bytes()).unwrap();
    assert_eq!(codec.encode(&value).unwrap(), br#"{"a":{"/":{"bytes":"AQID"}},"b":[]}"#);
    // The key is not reserved with other values.
    for text in
        [r#"{"/":1}"#, r#"{"/":{"a":1}}"#, r#"{"/":{"bytes":1}}"#, r#"{"/":[]}"#, r#"["𐅑",1.0,-1e-323]"#]
    {
        let value = codec.decode(text.as_bytes()).unwrap();
        assert_eq!(codec.encode(&value).unwrap(), text.as_bytes());
    }
    assert_eq!(codec.decode(br#""\ud83d\ude00""#), Ok(Ipld::String("😀".to_owned())));
    let text = Ipld::String("bafkqaaa".to_owned());
    assert!(codec.encode(&Ipld::Map(BTreeMap::from([("/".to_owned(), text)]))).is_err());
}

#[test]
fn a_damaged_block_never_panics_and_reads_only_to_what_writes_it() {
    let link = Ipld::Link(parse_cid("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap());
    let value = Ipld::Map(BTreeMap::from([
        ("Data".to_owned(), Ipld::Bytes(vec![1, 2, 3])),
        (
            "Links".to_owned(),
            Ipld::List(vec![Ipld::Map(BTreeMap::from([
                ("Hash".to_owned(), link.clone()),
                ("Name".to_owned(), Ipld::String("näme".to_owned())),
                ("Tsize".to_owned(), Ipld::Integer(300)),
            ]))]),
        ),
    ]));
    let mut seeded = Seeded::new(7);
    for codec in [Codec::DagPb, Codec::DagCbor, Codec::DagJson] {
        let good = codec.encode(&value).unwrap();
        same(codec, &good, value.clone());
        assert_eq!(codec.links(&good).unwrap().len(), 1);
        for len in 0..good.len() {
            let cut = codec.decode(&good[..len]);
            assert!(cut.is_err() || codec == Codec::DagPb, "{codec} cut to {len}");
        }
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            let at = seeded.below(bytes.len() as u64) as usize;
            bytes[at] = seeded.next_u64() as u8;
            let Ok(value) = codec.decode(&bytes) else { continue };
            assert!(codec.links(&bytes).is_ok());
            match codec {
                Codec::DagCbor => assert_eq!(codec.encode(&value).unwrap(), bytes),
                Codec::DagJson => {
                    assert_eq!(codec.decode(&codec.encode(&value).unwrap()).unwrap(), value);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_cid_has_one_text_form_for_each_base() {
    let v0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    let v1 = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    for text in [v0, v1, "bafkqaaa"] {
        assert_eq!(parse_cid(text).unwrap().to_string(), text);
    }
    let upper = parse_cid(&v1.to_uppercase()).unwrap();
    assert_eq!(upper.to_string(), v1);
    let in_multibase = format!("z{v0}");
    let path = format!("/ipfs/{v1}");
    let (space, cut) = (format!("{v1} "), &v1[..v1.len() - 1]);
    let long = format!("{v1}aa");
    let bare = &v1[1..];
    for text in [
        "",
        "Q",
        "b",
        "\0",
        "\0\u{1}U",
        &in_multibase,
        &path,
        &space,
        cut,
        &long,
        bare,
        &v0[..45],
        &"z".repeat(5000),
    ] {
        assert!(parse_cid(text).is_err(), "{text:?}");
    }
    let bytes = upper.to_bytes();
    assert_eq!(exact_cid(&bytes), Ok(upper));
    assert!(exact_cid(&[&bytes[..], &[0]].concat()).is_err());
    assert!((0..bytes.len()).all(|len| exact_cid(&bytes[..len]).is_err()));
    // A varint that is not the shortest, a version that does not exist.
    assert!(exact_cid(&[0x81, 0x00, 0x55, 0, 0]).is_err());
    assert!(exact_cid(&[2, 0x55, 0, 0]).is_err());
}

#[test]
fn a_block_is_named_by_any_hash_function_and_its_whole_digest() {
    let data = b"hello world";
    for code in [0x11, 0x12, 0x13, 0x14, 0x16, 0x19, 0x1b, 0x1e, 0x56, 0xb220, 0xb240, 0xb260] {
        let Some(function) = HashFunction::from_code(code) else { continue };
        let block = Block::with_hash(0x55, function, &data[..]);
        let full = function.digest(data);
        assert_eq!((block.cid().hash(), full.code(), function.name().parse()), (&full, code, Ok(function)));
        for len in 0..=full.size() {
            let cid = Cid::new_v1(0x55, full.truncate(len));
            assert_eq!(
                Block::from_cid(cid, &data[..]).is_ok(),
                len == full.size(),
                "{function} of {len} bytes"
            );
            assert!(Block::from_cid(cid, &b"hello"[..]).is_err());
        }
    }
}
