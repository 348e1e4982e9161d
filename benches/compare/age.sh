#!/bin/sh
# usage: benches/compare/age.sh [MIB [ROUNDS]]
# One file of MIB (1024) mebibytes through this crate (both ciphers, one core and all) and through age, side by side.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
cargo build --release --target-dir "$target" --features ring
cp "$target/release/compare" "$target/release/compare-ring"
cargo build --release --target-dir "$target"
"$target/release/compare" run "${1:-1024}" "${2:-5}" "$target/release/compare-ring"
