//! ASCII armor: one strict form, whatever way the bytes come in.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read, Write},
    rc::Rc,
};

use lightstreams_crypto::{
    ArmorReader, ArmorWriter, Error, MaybeArmored, X25519Identity, decryptor, encrypt,
};
use proptest::prelude::*;

use crate::{opened, rng, sealed_for, text};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// 48 bytes, and 2 more.
const FULL: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB";
const SHORT: &str = "QUE=";

fn armor(bytes: &[u8]) -> Vec<u8> {
    let mut armor = ArmorWriter::new(Vec::new());
    armor.write_all(bytes).unwrap();
    armor.finish().unwrap()
}

fn dearmor(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    ArmorReader::new(text).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[track_caller]
fn refuses(text: &str, at_line: u64, reason_part: &str) {
    match dearmor(text.as_bytes()) {
        Err(Error::MalformedArmor { line, reason }) => {
            assert!(reason.contains(reason_part), "{reason:?} for {text:?}");
            assert_eq!(line, at_line, "{text:?}");
        }
        other => panic!("{other:?} for {text:?}"),
    }
}

#[test]
fn what_is_not_strict_is_refused_and_its_line_named() {
    let good = format!("{BEGIN}\n{FULL}\n{SHORT}\n{END}\n");
    assert_eq!(dearmor(good.as_bytes()).unwrap(), [b'A'; 50]);
    let with = |from: &str, to: &str| good.replacen(from, to, 1);

    refuses("", 1, "no first line");
    refuses(" \n\n", 3, "no first line");
    refuses("age-encryption.org/v1\n", 1, "first line");
    refuses(&good.to_lowercase(), 1, "first line");
    refuses(&format!("garbage\n{good}"), 1, "first line");
    refuses(&format!(" {good}"), 1, "indented");
    refuses(&format!("\n\t{good}"), 2, "indented");
    let indented = format!("\n {good}");
    let mut bytewise = ArmorReader::new(BufReader::with_capacity(1, indented.as_bytes()));
    assert!(matches!(bytewise.fill_buf().map_err(Error::from), Err(Error::MalformedArmor { line: 2, .. })));
    refuses(&format!("\r{good}"), 1, "indented");
    refuses(&with("BEGIN AGE", "BEGIN PGP"), 1, "first line");
    refuses(&with("FILE-----\n", "FILE----- \n"), 1, "first line");
    refuses(&with("FILE-----\n", "FILE-----"), 1, "first line");
    refuses(&with("FILE-----\n", "FILE-----\nVersion: 1\n\n"), 2, "base64");
    refuses(&with("FILE-----\n", "FILE-----\n\n"), 2, "empty line");
    refuses(&with(FULL, &format!("{FULL}\n")), 3, "empty line");
    refuses(&with(FULL, &format!("{FULL}A")), 2, "longer than 64");
    refuses(&with(FULL, &format!("{FULL}QUFB")), 2, "longer than 64");
    refuses(&with(FULL, &"A".repeat(1_000_000)), 2, "longer than 64");
    refuses(&with(FULL, &format!("{FULL}\r\r")), 2, "longer than 64");
    refuses(&with(FULL, &format!(" {FULL}")), 2, "longer than 64");
    refuses(&with(FULL, &FULL[..60]), 3, "not full");
    refuses(&with(FULL, &FULL[..62]), 2, "base64");
    refuses(&with(FULL, &FULL.replacen('Q', "-", 1)), 2, "base64");
    refuses(&with(FULL, &FULL.replacen('Q', "\u{e4}", 1)), 2, "longer than 64");
    refuses(&with(SHORT, "QUE"), 3, "base64");
    refuses(&with(SHORT, "QUF="), 3, "base64");
    refuses(&with(SHORT, "QUE=="), 3, "base64");
    refuses(&with(SHORT, "QUE=\nQUE="), 4, "not full");
    refuses(&with(SHORT, "QUE= "), 3, "base64");
    refuses(&with(SHORT, "QUE=\r\r"), 3, "base64");
    refuses(&with(SHORT, "QUE=\n=QUE"), 4, "not full");
    refuses(&with(SHORT, "QUE=\n"), 4, "not full");
    refuses(&with("-----END", " -----END"), 4, "not full");
    refuses(&with("END AGE", "END PGP"), 4, "not full");
    refuses(&with(&format!("{SHORT}\n{END}\n"), ""), 3, "ends before");
    refuses(&with(&format!("{END}\n"), ""), 4, "ends before");
    refuses(&format!("{}x", good), 5, "follows");
    refuses(&format!("{}\n\n{BEGIN}", good), 7, "follows");
    refuses(&format!("{}{END}", good), 5, "follows");
    refuses(&good.replace("FILE-----\n", "FILE----- \n"), 1, "first line");
    refuses(&format!("{}{}", "\n".repeat(1025), good), 1026, "too much");
    refuses(&format!("{}{}", good, " ".repeat(1025)), 5, "too much");
    refuses(&" ".repeat(1_000_000), 1, "too much");
    for len in 0..good.len() - 1 {
        assert!(dearmor(&good.as_bytes()[..len]).is_err(), "{len} bytes of armor");
    }
}

#[test]
fn white_space_outside_and_both_ends_of_lines_are_borne() {
    let good = format!("{BEGIN}\n{FULL}\n{SHORT}\n{END}\n");
    let bytes = [b'A'; 50];
    for text in [
        good.replace('\n', "\r\n"),
        good.trim_end().to_owned(),
        format!("{}\r", good.trim_end()),
        format!(" \t\r\n\x0b\x0c\n{good} \n\r\n\t "),
        format!("{}{good}{}", "\n".repeat(1024), " ".repeat(1024)),
    ] {
        assert_eq!(dearmor(text.as_bytes()).unwrap(), bytes, "{text:?}");
    }
    assert_eq!(dearmor(format!("{BEGIN}\n{FULL}\n{END}").as_bytes()).unwrap(), [b'A'; 48]);
    assert_eq!(dearmor(format!("{BEGIN}\n{END}\n").as_bytes()).unwrap(), b"");
}

#[test]
fn a_fault_stays_and_what_was_sound_before_it_is_given_out() {
    let text = format!("{BEGIN}\n{}!\n{END}\n", format!("{FULL}\n").repeat(300));
    let mut reader = ArmorReader::new(text.as_bytes());
    let mut bytes = Vec::new();
    let error = Error::from(reader.read_to_end(&mut bytes).unwrap_err());
    assert!(matches!(error, Error::MalformedArmor { line: 302, .. }), "{error:?}");
    assert_eq!(bytes, vec![b'A'; 300 * 48]);
    for _ in 0..3 {
        let error = Error::from(reader.fill_buf().unwrap_err());
        assert!(matches!(error, Error::MalformedArmor { line: 302, .. }), "{error:?}");
    }
}

#[test]
fn the_first_byte_tells_whether_a_file_is_armored() {
    let identity = X25519Identity::generate(&mut rng(1));
    let plaintext = text(100_000);
    let binary = sealed_for(&identity, &plaintext, 2);
    let armored = armor(&binary);
    for (file, is_armored) in [(&binary, true), (&armored, false)] {
        assert_eq!(opened(&[&identity], file).unwrap(), plaintext);
        assert_eq!(opened(&[&identity], &[b"\n", &file[..]].concat()).is_ok(), !is_armored);
    }
    assert!(MaybeArmored::new(&armored[..]).is_armored().unwrap());
    assert!(!MaybeArmored::new(&binary[..]).is_armored().unwrap());
    assert!(!MaybeArmored::new(&b""[..]).is_armored().unwrap());
    let mut bytes = Vec::new();
    MaybeArmored::new(&b"any bytes"[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"any bytes");
}

#[test]
fn armor_that_breaks_in_the_payload_is_told_from_a_damaged_payload() {
    let identity = X25519Identity::generate(&mut rng(3));
    let armored = armor(&sealed_for(&identity, &text(200_000), 4));
    let mut broken = armored.clone();
    let middle = armored.len() / 2;
    broken[middle] = b'*';
    assert!(matches!(opened(&[&identity], &broken), Err(Error::MalformedArmor { .. })));
    let behind = [&armored[..], b"x"].concat();
    assert!(matches!(opened(&[&identity], &behind), Err(Error::MalformedArmor { .. })));
    let cut = &armored[..armored.len() - END.len() - 1];
    assert!(matches!(opened(&[&identity], cut), Err(Error::MalformedArmor { .. })));
    let mut reader = decryptor(&[&identity], &armored[..]).unwrap();
    assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 200_000);
}

#[test]
fn a_writer_that_is_not_finished_leaves_a_file_that_nobody_takes() {
    let mut armor = ArmorWriter::new(Vec::new());
    encrypt(&[&X25519Identity::generate(&mut rng(5)).recipient()], &b"text"[..], &mut armor, &mut rng(6))
        .unwrap();
    armor.flush().unwrap();
    let text = armor.finish().unwrap();
    let unfinished = &text[..text.len() - END.len() - 2];
    assert!(matches!(dearmor(unfinished), Err(Error::MalformedArmor { .. })));
}

/// A source that gives `sizes` in turn, and an error where one of them is 0.
struct Halting<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
    halts: &'a Cell<usize>,
}

impl Read for Halting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        if size == 0 && !self.bytes.is_empty() {
            self.halts.set(self.halts.get() + 1);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = self.bytes.split_at(size.min(buf.len()).min(self.bytes.len()));
        buf[..now.len()].copy_from_slice(now);
        self.bytes = later;
        Ok(now.len())
    }
}

/// A sink that takes `sizes` in turn, and gives an error where one of them is 0, until it is calmed.
struct Stubborn {
    text: Vec<u8>,
    calm: Rc<Cell<bool>>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Write for Stubborn {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        if size == 0 && !self.calm.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = size.max(1);
        self.text.extend_from_slice(&buf[..size.min(buf.len())]);
        Ok(size.min(buf.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1 => Just(0), 4 => 1..200usize], 1..6).prop_map(|mut sizes| {
        sizes.push(70);
        sizes
    })
}

proptest! {
    #[test]
    fn any_split_of_input_gives_the_same_text(
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        cuts in prop::collection::vec(1..7_000usize, 1..8),
        sizes in sizes(),
    ) {
        let calm = Rc::new(Cell::new(false));
        let sink = Stubborn { text: Vec::new(), calm: calm.clone(), sizes, turn: 0 };
        let mut writer = ArmorWriter::new(sink);
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            let mut now = now;
            while !now.is_empty() {
                // Again after an error, as it promises.
                let Ok(count) = writer.write(now) else { continue };
                now = &now[count..];
            }
            if rest.is_empty() {
                break;
            }
        }
        while writer.flush().is_err() {}
        calm.set(true);
        let text = writer.finish().unwrap().text;
        prop_assert_eq!(&text, &armor(&bytes));
        for line in str::from_utf8(&text).unwrap().lines() {
            prop_assert!(line.len() <= 64);
        }
    }

    #[test]
    fn any_split_of_armor_gives_the_same_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        sizes in sizes(),
        capacity in 1..300usize,
        crlf in any::<bool>(),
    ) {
        let mut text = armor(&bytes);
        if crlf {
            text = str::from_utf8(&text).unwrap().replace('\n', "\r\n").into_bytes();
        }
        let halts = Cell::new(0);
        let source = Halting { bytes: &text, sizes, turn: 0, halts: &halts };
        let mut reader = ArmorReader::new(BufReader::with_capacity(capacity, source));
        let (mut found, mut errors) = (Vec::new(), 0);
        loop {
            let mut part = [0; 97];
            match reader.read(&mut part) {
                Ok(0) => break,
                Ok(count) => found.extend_from_slice(&part[..count]),
                Err(error) => {
                    prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    errors += 1;
                }
            }
        }
        // Every error of the source is passed on, once.
        prop_assert_eq!(errors, halts.get());
        prop_assert_eq!(found, bytes);
    }

    #[test]
    fn any_text_is_refused_or_is_the_armor_of_its_bytes(
        lines in prop::collection::vec("([A-Za-z0-9+/]{64}|[A-Za-z0-9+/]{0,65}={0,2}|.{0,5})", 0..5),
        before in "[ \n\r]{0,3}",
        behind in "[ \n\r]{0,3}",
    ) {
        let text = format!("{before}{BEGIN}\n{}\n{END}{behind}", lines.join("\n"));
        if let Ok(bytes) = dearmor(text.as_bytes()) {
            let (text, ours) = (text.replace('\r', ""), armor(&bytes));
            prop_assert_eq!(text.trim().as_bytes(), ours.trim_ascii());
        }
    }

    #[test]
    fn any_changed_byte_changes_the_bytes_or_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut text = armor(&bytes);
        let at = at.index(text.len());
        prop_assume!(text[at] != to && !(at + 1 == text.len() && to.is_ascii_whitespace()));
        text[at] = to;
        if let Ok(found) = dearmor(&text) {
            prop_assert_ne!(found, bytes);
        }
    }
}
