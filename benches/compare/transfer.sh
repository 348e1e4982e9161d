#!/usr/bin/env bash
# usage: benches/compare/transfer.sh FOLDER [MIB [ROUNDS]]
# A file of MIB (1024) mebibytes over loopback, in turn by us (the bench `transfer`, from segments into segments) and by sendme (iroh, of the
# PATH: `cargo install sendme`; from the file into a file, QUIC, without relays). FOLDER, best one in memory, holds all of it. Linux only.
set -euo pipefail
place=${1:?usage: benches/compare/transfer.sh FOLDER [MIB [ROUNDS]]}
mib=${2:-1024}
rounds=${3:-3}
command -v sendme >/dev/null || { echo "sendme is not on the PATH: cargo install sendme" >&2; exit 1; }
work=$(mktemp -d "$place/transfer.XXXXXX")
seeder=
trap '[ -z "$seeder" ] || kill "$seeder"; rm -rf "$work"' EXIT
cd "$(dirname "$0")/../.."
cargo bench --locked --no-run -p lightstreams-benches --bench transfer
head -c "$((mib << 20))" /dev/urandom >"$work/file"

# CPU seconds of a process, and of its children that ended.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13 + $14 + $15) / hz }' "/proc/$1/stat"; }

by_sendme() {
    mkdir "$work/from" "$work/to"
    (cd "$work/from" && exec sendme send --relay disabled --ticket-type addresses --magic-ipv4-addr 127.0.0.1:0 --no-progress ../file) \
        >"$work/ticket" 2>&1 </dev/null &
    seeder=$!
    until ticket=$(grep -om1 'blob[a-z0-9]*' "$work/ticket"); do sleep 0.1; done
    before=$(cpu "$seeder")
    reader=$(cd "$work/to" && TIMEFORMAT='%R %U %S' && { time sendme receive --relay disabled --no-progress "$ticket" >/dev/null 2>&1; } 2>&1)
    after=$(cpu "$seeder")
    kill "$seeder"
    seeder=
    cmp "$work/file" "$work/to/file"
    awk -v mib="$mib" -v seeder="$before $after" -v reader="$reader" 'BEGIN {
        split(seeder, s); split(reader, r); gib = mib / 1024
        printf "sendme, %d MiB: %.0f MB/s, %.2f s\n", mib, mib * 1.048576 / r[1], r[1]
        printf "  CPU-s/GiB: %.2f for both ends, %.2f seeder, %.2f reader\n",
            (s[2] - s[1] + r[2] + r[3]) / gib, (s[2] - s[1]) / gib, (r[2] + r[3]) / gib
    }'
    rm -rf "$work/from" "$work/to"
}

for ((round = 0; round < rounds; round++)); do
    TMPDIR=$work cargo bench -q --locked -p lightstreams-benches --bench transfer -- "$mib" loopback
    by_sendme
done
