#!/usr/bin/env bash
# usage: benches/compare/add.sh FOLDER [MIB [ROUNDS [SMALL]]]
# Adding, side by side: a file of MIB (1024) mebibytes, SMALL (100) mebibytes in files of 1 KiB, and a tree of MIB of which three files of
# ten are copies. FOLDER, best one in memory, holds input and stores. Each line is a pair: in every round (3) our add and then the other
# program's, each a process into a new store; figures are medians, ratios those of CPU seconds (user and system) and of wall time. Plain
# adds stand against Helia's importer (npm) and Kubo (`ipfs`), sealed ones against restic and borg, which encrypt too; all without
# compression. The other programs are taken from the PATH; one that is missing is left out.
set -euo pipefail
place=${1:?usage: benches/compare/add.sh FOLDER [MIB [ROUNDS [SMALL]]]}
mib=${2:-1024}
rounds=${3:-3}
small=${4:-100}
work=$(mktemp -d "$place/add.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
backends=(ring)
if pkg-config --exists openssl; then
    backends+=(openssl)
else
    echo "OpenSSL's headers or pkg-config are missing: the cipher of openssl is left out"
fi
for backend in "${backends[@]}"; do
    cargo build --locked --release --target-dir "$target" --features "$backend,store" --bin add
    cp "$target/release/add" "$work/add-$backend"
done
cargo build --locked --release --target-dir "$target" --features store --bin add
cp "$target/release/add" "$work/add"

export RESTIC_PASSWORD=x BORG_PASSPHRASE=x BORG_BASE_DIR="$work/borg-base" IPFS_PATH="$work/store"
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes

# Makes an empty store, which is not measured.
new() {
    rm -rf "$work/store"
    case $1 in
        restic) restic init -q -r "$work/store" ;;
        borg) borg init -e repokey-blake2 "$work/store" 2>/dev/null ;;
        kubo) ipfs init --empty-repo >/dev/null ;;
    esac
}

add() {
    case $1 in
        ours) "$work/add" plain "$2" "$work/store" ;;
        sealed) "$work/add" sealed "$2" "$work/store" ;;
        sealed-*) "$work/add-${1#sealed-}" sealed "$2" "$work/store" ;;
        importer) node "$work/importer/add.mjs" "$2" "$work/store" ;;
        restic) restic -r "$work/store" --no-cache --compression off -q backup "$2" ;;
        borg) borg create --compression none "$work/store::a" "$2" ;;
        kubo)
            ipfs --offline add -r -Q --cid-version=1 --raw-leaves --chunker=size-1048576 --max-file-links=1024 "$2" ;;
    esac
}

# Appends wall and CPU seconds to the file of this program.
measure() {
    new "$1"
    local TIMEFORMAT='%R %U %S'
    { time add "$1" "$2" >"$work/out.$1" 2>"$work/err"; } 2>"$work/time" ||
        { echo "$1 failed:" >&2; cat "$work/err" >&2; exit 1; }
    awk '{ print $1, $2 + $3 }' "$work/time" >>"$work/times.$1"
}

median() { awk -v column="$2" '{ print $column }' "$work/times.$1" | sort -g | sed -n "$(((rounds + 1) / 2))p"; }

# pair OURS THEIRS INPUT: both, by turns.
pair() {
    rm -f "$work"/times.*
    for _ in $(seq "$rounds"); do
        measure "$1" "$3"
        measure "$2" "$3"
    done
    awk -v a="$1" -v b="$2" -v wa="$(median "$1" 1)" -v ca="$(median "$1" 2)" -v wb="$(median "$2" 1)" -v cb="$(median "$2" 2)" 'BEGIN {
        printf "  %-14s %6.2f s %6.2f CPU-s   %-9s %6.2f s %6.2f CPU-s   %5.1f times the CPU, %5.1f times the time\n",
            a, wa, ca, b, wb, cb, cb / ca, wb / wa }'
}

plain=() sealed=()
if command -v npm >/dev/null && command -v node >/dev/null; then
    cp -r importer "$work/importer"
    (cd "$work/importer" && npm install --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel error >/dev/null)
    plain+=(importer)
else
    echo "node or npm is not on the PATH: Helia's importer is left out"
fi
for program in kubo:ipfs restic:restic borg:borg; do
    if ! command -v "${program#*:}" >/dev/null; then
        echo "${program#*:} is not on the PATH: left out"
    elif [ "${program%:*}" = kubo ]; then
        plain+=(kubo)
    else
        sealed+=("${program%:*}")
    fi
done
for kind in file small tree; do
    case $kind in
        file) amount=$mib what="a file of $mib MiB" ;;
        small) amount=$small what="$((small * 1024)) files of 1 KiB" ;;
        tree) amount=$mib what="a tree of $mib MiB in files of 1 MiB, 30 % of them copies" ;;
    esac
    "$work/add" make "$kind" "$amount" "$work/$kind"
    echo "$what"
    for other in "${plain[@]}"; do pair ours "$other" "$work/$kind"; done
    # One sealed file holds the bytes of all, and nothing of it can occur twice: only a file compares.
    if [ "$kind" = file ]; then
        for other in "${sealed[@]}"; do
            pair sealed "$other" "$work/$kind"
            for backend in "${backends[@]}"; do pair "sealed-$backend" "$other" "$work/$kind"; done
        done
    fi
    rm -rf "${work:?}/$kind"
done
