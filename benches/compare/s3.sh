#!/usr/bin/env bash
# Segments on a real S3: benches/compare/s3.sh [MIB]. With AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and BUCKET (which
# exists, and whose objects below lightstreams/ may go) on that one; else on moto_server, which is on the PATH then.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${AWS_ENDPOINT:-}" ]; then
    command -v moto_server >/dev/null || { echo "the program moto_server is not on the PATH" >&2; exit 2; }
    port=$((20000 + RANDOM % 10000))
    moto_server -H 127.0.0.1 -p "$port" >/dev/null 2>&1 &
    server=$!
    trap 'kill "$server"' EXIT
    export AWS_ENDPOINT=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test BUCKET=test
    until curl -sf -X PUT "$AWS_ENDPOINT/$BUCKET" -o /dev/null; do
        kill -0 "$server"
        sleep 0.2
    done
fi
cargo run --locked --release --features s3 --bin s3 -- "$BUCKET" "${1:-512}"
