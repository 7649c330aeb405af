#!/usr/bin/env bash
# A second reader for the exports: loads a package index (apt's, or a made-up one), exports it to Parquet, and lets
# pyarrow count and hash what is in the file. Needs python3 with pyarrow. Takes the built `esker`, or builds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
esker=${ESKER:-target/release/esker}
[ -x "$esker" ] || cargo build --release --bin esker
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
db="file://$folder/db"

index=$(compgen -G '/var/lib/apt/lists/*_Packages*' | xargs -r ls -S | head -n 1 || true)
if [ -z "$index" ]; then
  index="$folder/Packages"
  for n in $(seq 20000); do
    printf 'Package: made-up-%d\nVersion: 1.%d\nArchitecture: all\nDescription: number %d\n\n' "$n" "$((n % 7))" "$n"
  done >"$index"
fi
echo "index: $index"
"$esker" load "$db" "$index" --compaction off
printf '%s\n' '{"key_hex":"00ff","value_hex":"fe00","expire_at_ms":99999999999999}' '{"keyspace":"other","key":"é","value":""}' \
  | "$esker" load "$db" - --format jsonl --compaction off
ours=$("$esker" export "$db" "$folder/out.parquet" --hash)
theirs=$(python3 tools/tests/parquet_check.py "$folder/out.parquet")
echo "esker:   $ours"
echo "pyarrow: $theirs"
[ "$ours" = "$theirs" ] || { echo "error: they differ"; exit 1; }
