#!/usr/bin/env bash
# usage: benches/compare/transfer.sh FOLDER [MIB [ROUNDS]]
# A file of MIB (1024) mebibytes over loopback, in turn by us (the bench `transfer`, from segments into segments) and by others, as far as
# they are here: sendme (iroh, of the PATH: `cargo install sendme`; from the file into a file, QUIC, without relays), Kubo (`ipfs` of the
# PATH; from repository into repository), Helia (npm, node 22; from memory into memory and a file). FOLDER, best one in memory, holds all of
# it. Linux only.
set -euo pipefail
place=${1:?usage: benches/compare/transfer.sh FOLDER [MIB [ROUNDS]]}
mib=${2:-1024}
rounds=${3:-3}
work=$(mktemp -d "$place/transfer.XXXXXX")
peers=()
stop() {
    for peer in "${peers[@]}"; do kill "$peer" 2>/dev/null || true; done
    wait
    peers=()
}
trap 'stop; rm -rf "$work"' EXIT
cd "$(dirname "$0")/../.."
cargo bench --locked --no-run -p lightstreams-benches --bench transfer
head -c "$((mib << 20))" /dev/urandom >"$work/file"

# CPU seconds of a process, and of its children that ended.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13 + $14 + $15) / hz }' "/proc/$1/stat"; }

# report PROGRAM SECONDS SEEDER READER: of both ends the CPU seconds.
report() {
    awk -v who="$1" -v mib="$mib" -v wall="$2" -v seeder="$3" -v reader="$4" 'BEGIN {
        gib = mib / 1024
        printf "%s, %d MiB: %.0f MB/s, %.2f s\n", who, mib, mib * 1.048576 / wall, wall
        printf "  CPU-s/GiB: %.2f for both ends, %.2f seeder, %.2f reader\n", (seeder + reader) / gib, seeder / gib, reader / gib
    }'
}

# between PROGRAM SEEDER READER COMMAND...: the cost of a command, in two processes that run.
between() {
    local who=$1 seeder=$2 reader=$3 from to seeder_before reader_before
    seeder_before=$(cpu "$seeder")
    reader_before=$(cpu "$reader")
    from=$(date +%s.%N)
    "${@:4}"
    to=$(date +%s.%N)
    report "$who" "$(echo "$from $to" | awk '{ print $2 - $1 }')" "$(echo "$seeder_before $(cpu "$seeder")" | awk '{ print $2 - $1 }')" \
        "$(echo "$reader_before $(cpu "$reader")" | awk '{ print $2 - $1 }')"
}

by_sendme() {
    local ticket before after wall user system
    mkdir "$work/from" "$work/to"
    (cd "$work/from" && exec sendme send --relay disabled --ticket-type addresses --magic-ipv4-addr 127.0.0.1:0 --no-progress ../file) \
        >"$work/ticket" 2>&1 </dev/null &
    peers+=($!)
    until ticket=$(grep -om1 'blob[a-z0-9]*' "$work/ticket"); do
        kill -0 "${peers[0]}" || { cat "$work/ticket" >&2; exit 1; }
        sleep 0.1
    done
    before=$(cpu "${peers[0]}")
    read -r wall user system < <(cd "$work/to" && TIMEFORMAT='%R %U %S' &&
        { time sendme receive --relay disabled --no-progress "$ticket" >/dev/null 2>&1; } 2>&1)
    after=$(cpu "${peers[0]}")
    stop
    cmp "$work/file" "$work/to/file"
    report sendme "$wall" "$(echo "$before $after" | awk '{ print $2 - $1 }')" "$(echo "$user $system" | awk '{ print $1 + $2 }')"
    rm -rf "$work/from" "$work/to"
}

# kubo NAME ARGUMENT...: the program on the repository of that name.
kubo() { IPFS_PATH="$work/$1" ipfs "${@:2}"; }

by_kubo() {
    local name root address
    for name in seeder reader; do
        kubo "$name" init --profile test --empty-repo >/dev/null
        kubo "$name" config --json Addresses.Swarm '["/ip4/127.0.0.1/tcp/0"]'
        kubo "$name" config --json Addresses.API '"/ip4/127.0.0.1/tcp/0"'
        kubo "$name" config --json Addresses.Gateway '[]'
        kubo "$name" config --json Routing.Type '"none"'
        IPFS_PATH="$work/$name" ipfs daemon >"$work/$name.out" 2>&1 &
        peers+=($!)
        until grep -q "Daemon is ready" "$work/$name.out"; do
            kill -0 $! || { cat "$work/$name.out" >&2; exit 1; }
            sleep 0.1
        done
    done
    root=$(kubo seeder add -Q --cid-version=1 --raw-leaves --chunker=size-1048576 --max-file-links=1024 "$work/file")
    address=$(kubo seeder swarm addrs local --id | grep -m 1 127.0.0.1)
    kubo reader swarm connect "$address" >/dev/null
    between Kubo "${peers[@]}" kubo reader pin add --progress=false "$root" >"$work/report"
    grep -v '^pinned' "$work/report"
    kubo reader cat "$root" | cmp "$work/file" -
    stop
    rm -rf "$work/seeder" "$work/reader" "$work"/*.out
}

# ask NAME REQUEST: the answer of a Helia node.
ask() {
    local lines
    lines=$(wc -l <"$work/$1.out")
    echo "$2" >"$work/$1.in"
    until [ "$(wc -l <"$work/$1.out")" -gt "$lines" ]; do sleep 0.05; done
    tail -n 1 "$work/$1.out" | tee "$work/answer"
    ! grep -q '"error"' "$work/answer"
}

# member KEY: of the JSON on standard input, which holds no quotes in its texts.
member() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }

by_helia() {
    local name root address
    for name in seeder reader; do
        mkfifo "$work/$name.in"
        # Open for both, so that no writer's end is the end of the input.
        node "$work/helia/peer.mjs" <>"$work/$name.in" >"$work/$name.out" &
        peers+=($!)
        until [ -s "$work/$name.out" ]; do
            kill -0 $!
            sleep 0.1
        done
    done
    address=$(head -n 1 "$work/seeder.out" | member address)
    root=$(ask seeder '{"command":"add","path":"'"$work/file"'","directory":false,"profile":"unixfs-v1-2025"}' | member cid)
    ask reader '{"command":"dial","address":"'"$address"'"}' >/dev/null
    between Helia "${peers[@]}" ask reader '{"command":"get","cid":"'"$root"'","path":"'"$work/copy"'","ms":600000}' >"$work/report"
    grep -v '^{' "$work/report"
    cmp "$work/file" "$work/copy"
    stop
    rm "$work"/*.in "$work"/*.out "$work/copy"
}

others=()
for program in sendme:sendme ipfs:kubo; do
    if command -v "${program%:*}" >/dev/null; then others+=("${program#*:}"); else echo "${program%:*} is not on the PATH: left out"; fi
done
if command -v npm >/dev/null && [ "$(node --version 2>/dev/null | tr -cd '0-9.' | cut -d. -f1)" -ge 22 ] 2>/dev/null; then
    cp -r lightstreams-store/tests/helia "$work/helia"
    (cd "$work/helia" && npm ci --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null)
    others+=(helia)
else
    echo "node 22 or npm is not on the PATH: Helia is left out"
fi
for ((round = 0; round < rounds; round++)); do
    TMPDIR=$work cargo bench -q --locked -p lightstreams-benches --bench transfer -- "$mib" loopback
    for other in "${others[@]}"; do "by_$other"; done
done
