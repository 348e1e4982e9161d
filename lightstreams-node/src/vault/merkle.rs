//! The Merkle tree of RFC 6962 over receipts.
//!
//! ```text
//! entry = SHA-256(receipt CBOR ‖ sig)      leaf = SHA-256(0x00 ‖ entry)      node = SHA-256(0x01 ‖ left ‖ right)
//! ```
//!
//! The tree shows hashes only, so that its root may be published while the receipts stay with those whom they
//! concern.

use alloy_primitives::B256;
use sha2::{Digest, Sha256};

/// The hash under which a receipt stands in the log: SHA-256 of its bytes and its signature.
pub fn entry_hash(receipt: &[u8], sig: &[u8; 64]) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update(receipt);
    hasher.update(sig);
    B256::new(hasher.finalize().into())
}

/// The leaf of an entry.
pub fn leaf_hash(entry: &B256) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(entry);
    B256::new(hasher.finalize().into())
}

fn node_hash(left: &B256, right: &B256) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left);
    hasher.update(right);
    B256::new(hasher.finalize().into())
}

/// The root over `leaves`; of none, the hash of nothing, as RFC 6962 has it.
pub fn root(leaves: &[B256]) -> B256 {
    match leaves {
        [] => B256::new(Sha256::digest([]).into()),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The audit path of the leaf at `index`, from the leaf's sibling upwards; `None` where there is no such leaf.
pub fn inclusion_proof(leaves: &[B256], index: usize) -> Option<Vec<B256>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut rest, mut index, mut path) = (leaves, index, Vec::new());
    while rest.len() > 1 {
        let at = split(rest.len());
        let (left, right) = rest.split_at(at);
        if index < at {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            rest = right;
            index -= at;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `proof` leads from `leaf` at `index` to the root of a tree of `size` leaves (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: &B256, index: u64, size: u64, proof: &[B256], root: &B256) -> bool {
    if index >= size {
        return false;
    }
    let (mut position, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(sibling, &hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: usize) -> Vec<B256> {
        (0..n).map(|i| leaf_hash(&entry_hash(&i.to_be_bytes(), &[7; 64]))).collect()
    }

    // RFC 6962 test data of the Certificate Transparency project: leaf inputs, roots of the first n.
    #[test]
    fn roots_are_those_of_the_certificate_transparency_project() {
        let inputs: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let leaves: Vec<B256> = inputs
            .iter()
            .map(|input| {
                let mut hasher = Sha256::new();
                hasher.update([0]);
                hasher.update(input);
                B256::new(hasher.finalize().into())
            })
            .collect();
        let expected = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (n, hex) in expected {
            assert_eq!(root(&leaves[..n]), hex.parse::<B256>().unwrap(), "root of {n}");
        }
    }

    #[test]
    fn every_leaf_is_proven_and_only_where_it_stands() {
        for size in 1..40usize {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index).unwrap();
                for claimed in 0..size {
                    let holds = verify_inclusion(&leaves[index], claimed as u64, size as u64, &proof, &root);
                    assert_eq!(holds, claimed == index, "leaf {index} of {size} as {claimed}");
                }
                let mut long = proof.clone();
                long.push(root);
                assert!(!verify_inclusion(&leaves[index], index as u64, size as u64, &long, &root));
            }
            assert_eq!(inclusion_proof(&leaves, size), None);
        }
    }
}
