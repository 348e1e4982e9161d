//! Ed25519 at the edges that verifiers disagree about.
//!
//! The rule is that of `ed25519::verify_strict`: the equation without cofactor, and nothing that has two
//! spellings or is of small order. So a signature is accepted unless its key or its commitment is of low order
//! or not canonical, or something of low order is left over in the equation.

use std::path::Path;

use lightstreams_crypto::ed25519::verify_strict;

use crate::report::{Report, bytes, ensure, failed, list, text};

const REFUSED: [&str; 6] =
    ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue", "reencoded_k"];

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "cctv-ed25519", ".json") {
        for case in list(&report.json(&path)) {
            report.case(format_args!("number {}", case["number"]), || {
                let flag = list(&case["flags"]).iter().filter_map(|flag| flag.as_str());
                let expected = !flag.into_iter().any(|flag| REFUSED.contains(&flag));
                let (Ok(key), Ok(signature)) =
                    (<[u8; 32]>::try_from(bytes(case, "key")?), <[u8; 64]>::try_from(bytes(case, "sig")?))
                else {
                    return failed("not a key of 32 bytes and a signature of 64");
                };
                let accepted = verify_strict(&key, text(case, "msg")?.as_bytes(), &signature).is_ok();
                ensure(accepted == expected, format_args!("accepted: {accepted}, flags: {}", case["flags"]))
            });
        }
    }
}
