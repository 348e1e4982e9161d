#!/usr/bin/env bash
# usage: benches/compare/chain.sh FOLDER [TRANSACTIONS [BLOCKS]]
# The chain, side by side. FOLDER holds what is stored, so put it on the disk that is to be measured. Figures are wall and CPU seconds (user
# and system) of whole processes or of the part named; compare those of one run.
#  1. Execution with root beside bare revm; imports into memory and, with a sync of every block, into fjall: TRANSACTIONS (40000) in BLOCKS (40).
#  2. `chain-load`, a chain that go-ethereum made (LIGHTSTREAMS_VECTORS, else ../shared/vectors), beside `geth import` where geth with Clique
#     (1.13) is on the PATH.
#  3. The same signed transactions over JSON-RPC, to anvil (npm's @foundry-rs/anvil), to us in memory, and to us with a sync of every block:
#     taking them in, and making blocks of them.
set -euo pipefail
place=${1:?usage: benches/compare/chain.sh FOLDER [TRANSACTIONS [BLOCKS]]}
transactions=${2:-40000}
blocks=${3:-40}
work=$(mktemp -d "$place/chain.XXXXXX")
server=
stop() { if [ -n "$server" ]; then kill "$server"; wait "$server" || true; fi 2>/dev/null; server=; }
trap 'stop; rm -rf "$work"' EXIT
cd "$(dirname "$0")"
vectors=${LIGHTSTREAMS_VECTORS:-$PWD/../../../shared/vectors}
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --locked --release --target-dir "$target" --features chain --bin chain
cp "$target/release/chain" "$work/chain"
chain=$work/chain
uptime

echo "== execution and import"
for kind in transfer fresh erc20 erc20-fresh storage compute; do
    "$chain" make $kind "$blocks" "$((transactions / blocks))" "$work/load"
    echo "-- $kind"
    "$chain" revm "$work/load"
    for store in memory fjall; do
        rm -rf "$work/database"
        [ $store = memory ] && to=memory || to=$work/database
        for senders in known recover; do
            rm -rf "$work/database"
            echo "$store, a commit a block, senders: $senders"
            "$chain" import "$work/load" "$to" $senders one
        done
    done
    rm -rf "$work/load"
done

echo "== an empty block"
for accounts in 1000 1000000; do
    for store in memory fjall; do
        rm -rf "$work/database"
        [ $store = memory ] && to=memory || to=$work/database
        echo "$store"
        "$chain" empty $accounts "$to"
    done
done

echo "== chain-load"
if [ -d "$vectors/chain-load" ] && command -v zstd >/dev/null; then
    mkdir "$work/load"
    cp "$vectors/chain-load/genesis.json" "$work/load"
    zstd -qdc "$vectors/chain-load/chain.rlp.zst" >"$work/load/chain.rlp"
    for group in one many; do
        rm -rf "$work/database"
        echo "ours, a commit for $group"
        "$chain" import "$work/load" "$work/database" recover $group
    done
    if command -v geth >/dev/null; then
        geth --verbosity 1 --datadir "$work/geth" init "$work/load/genesis.json"
        TIMEFORMAT="geth import: %R s, user %U and system %S CPU-s"
        time geth --verbosity 1 --datadir "$work/geth" import "$work/load/chain.rlp" >/dev/null
    else
        echo "geth is not on the PATH: left out"
    fi
else
    echo "no vectors, or no zstd: left out"
fi

echo "== over JSON-RPC"
anvil=
if command -v npm >/dev/null; then
    (cd "$work" && npm install --ignore-scripts --no-audit --no-fund --loglevel error @foundry-rs/anvil@1.7.1 >/dev/null)
    anvil=$(find "$work/node_modules/@foundry-rs" -path '*bin/anvil' -type f | head -n 1)
fi
[ -n "$anvil" ] || echo "npm is not on the PATH: anvil is left out"
for kind in fresh erc20-fresh storage compute; do
    "$chain" sign $kind "$transactions" "$work/signed"
    echo "-- $kind"
    for other in ${anvil:+anvil} memory fjall; do
        rm -rf "$work/database"
        case $other in
            anvil)
                "$anvil" --silent --no-mining --order fifo --init "$work/signed/genesis.json" --chain-id 161 \
                    --port 18545 --block-base-fee-per-gas 0 --gas-limit 1000000000 --transaction-block-keeper 100000 &
                ;;
            memory) "$chain" serve "$work/signed" memory 18545 & ;;
            fjall) "$chain" serve "$work/signed" "$work/database" 18545 & ;;
        esac
        server=$!
        echo "$other"
        "$chain" drive "$work/signed" 18545 $server "$blocks"
        echo "  $(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$server/status") MiB in memory"
        stop
    done
done
