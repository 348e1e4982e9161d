#!/bin/sh
# usage: benches/compare/interop.sh [MIB]
# Files, up to one of MIB (256) mebibytes, and directories, both ways between us and Helia (npm, node 22), and Kubo where its
# program ipfs is on the PATH; what they read of our encrypted files is opened by the real age. With Kubo also CARs and a folder of blocks;
# and kubo-rpc-client (npm) against our RPC.
set -eu
cd "$(dirname "$0")/../.."
export LIGHTSTREAMS_REQUIRE_TOOLS=1 LIGHTSTREAMS_INTEROP_MIB="${1:-256}"
command -v ipfs >/dev/null || echo "without Kubo: ipfs is not on the PATH" >&2
exec cargo test --locked --release -p lightstreams-store --features tls,rpc,testing --test it -- \
    bitswap::helia bitswap::kubo rpc_client --test-threads 1
