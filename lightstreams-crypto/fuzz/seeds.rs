//! Writes the first inputs of every fuzz target below the folder named by the first argument.

use std::{fs, io, path::PathBuf};

use lightstreams_crypto::{
    ArmorWriter, HybridIdentity, Recipient, ScryptRecipient, SshIdentity, X25519Identity, encrypt,
    rand_core::CryptoRng, testing::weak_keystore,
};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".into()));
    let write = |target: &str, name: &str, bytes: &[u8]| -> io::Result<()> {
        fs::create_dir_all(root.join(target))?;
        fs::write(root.join(target).join(name), bytes)
    };

    let rng: &mut dyn CryptoRng = &mut StdRng::seed_from_u64(1);
    let (x25519, hybrid) = (X25519Identity::generate(rng), HybridIdentity::generate(rng));
    let (to_x25519, to_hybrid) = (x25519.recipient(), hybrid.recipient());
    let to_scrypt = ScryptRecipient::new("password").with_work_factor(2);
    let to_ssh = SshIdentity::from_seed(&[3; 32]).recipient();
    let kinds: [(&str, Vec<&dyn Recipient>); 5] = [
        ("x25519", vec![&to_x25519]),
        ("many", vec![&to_x25519; 5]),
        ("hybrid", vec![&to_hybrid]),
        ("ssh", vec![&to_ssh, &to_x25519]),
        ("scrypt", vec![&to_scrypt]),
    ];
    for (kind, recipients) in kinds {
        let mut file = Vec::new();
        encrypt(&recipients, &b"a short text"[..], &mut file, rng)?;
        write("header", kind, &file)?;
        write("file", kind, &file)?;
        let mut armor = ArmorWriter::new(Vec::new());
        io::copy(&mut &file[..], &mut armor)?;
        let armored = armor.finish()?;
        write("armor", kind, &armored)?;
        write("file", &format!("{kind}-armored"), &armored)?;
        let crlf = String::from_utf8(armored)?.replace('\n', "\r\n");
        write("armor", &format!("{kind}-crlf"), format!(" \n{crlf} \n").as_bytes())?;
    }
    // A stanza of an unknown kind, with a body that fills its last line.
    let grease =
        format!("age-encryption.org/v1\n-> grease a b\n{}\n\n--- {}\n", "A".repeat(64), "A".repeat(43));
    write("header", "unknown", grease.as_bytes())?;

    // See payload.rs: length, then changes.
    for len in 0..5 {
        write("payload", &format!("sound-{len}"), &[len, 0])?;
        for change in 0..6 {
            write("payload", &format!("changed-{len}-{change}"), &[len, 3, change, 1, 0, 7, 1])?;
        }
    }

    let scrypt = weak_keystore(&[7; 32], Some(&[9; 20]), b"password", rng)?;
    write("keystore", "scrypt", scrypt.as_bytes())?;
    let pbkdf2 = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"00000000000000000000000000000000"},"ciphertext":"00","kdf":"pbkdf2","kdfparams":{"c":2,"dklen":32,"prf":"hmac-sha256","salt":"00"},"mac":"00"},"version":3}"#;
    write("keystore", "pbkdf2", pbkdf2.as_bytes())?;

    let secrets = format!("# a comment\n{}\n\n{}\n", *x25519.to_secret_string(), *hybrid.to_secret_string());
    let recipients = format!("# a comment\n{to_x25519}\n\n{to_hybrid}\n");
    write("keys", "identities", secrets.as_bytes())?;
    write("keys", "recipients", recipients.as_bytes())?;
    write("keys", "x25519", to_x25519.to_string().as_bytes())?;
    write("keys", "x25519-secret", x25519.to_secret_string().as_bytes())?;
    write("keys", "hybrid", to_hybrid.to_string().as_bytes())?;
    write("keys", "hybrid-secret", hybrid.to_secret_string().as_bytes())?;
    write("keys", "ssh", format!("{to_ssh} comment\n").as_bytes())?;
    Ok(())
}
