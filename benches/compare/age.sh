#!/bin/sh
# usage: benches/compare/age.sh [MIB [ROUNDS]]
# One file of MIB (1024) mebibytes through this crate (each cipher, one core and all) and through age, side by side. Without the headers
# of OpenSSL that one is left out.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
mib=${1:-1024} rounds=${2:-5}
set -- ring
if pkg-config --exists openssl; then set -- "$@" openssl; else echo "OpenSSL is left out: its headers or pkg-config are missing"; fi
for backend in "$@"; do
    cargo build --release --target-dir "$target" --features "$backend"
    cp "$target/release/compare" "$target/release/compare-$backend"
    shift
    set -- "$@" "$backend=$target/release/compare-$backend"
done
cargo build --release --target-dir "$target"
"$target/release/compare" run "$mib" "$rounds" "$@"
