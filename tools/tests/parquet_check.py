#!/usr/bin/env python3
"""Counts and hashes an exported Parquet file with a reader we did not write (pyarrow).

Prints `ROWS SHA256`, the same line as `esker export --hash` and `esker count --all --hash`:
SHA-256 over every row in order, of keyspace, key and value, each after its length as four bytes,
little-endian. Also checks what the file promises: keys ascend within a keyspace, sequence numbers
are at least 1.
"""

import hashlib
import sys

import pyarrow.parquet as parquet

COLUMNS = ["keyspace", "key", "value", "seq", "expire_at_ms"]


def main(path: str) -> int:
    file = parquet.ParquetFile(path)
    if file.schema_arrow.names != COLUMNS:
        print(f"error: the columns are {file.schema_arrow.names}, not {COLUMNS}", file=sys.stderr)
        return 1
    rows, digest = 0, hashlib.sha256()
    before = None
    for batch in file.iter_batches(batch_size=4096):
        columns = [batch.column(name).to_pylist() for name in COLUMNS[:4]]
        for keyspace, key, value, seq in zip(*columns):
            if before is not None and before[0] == keyspace and before[1] >= key:
                print(f"error: key {key!r} does not come after {before[1]!r}", file=sys.stderr)
                return 1
            if seq < 1:
                print(f"error: key {key!r} has sequence number {seq}", file=sys.stderr)
                return 1
            before = (keyspace, key)
            for part in (keyspace.encode(), key, value):
                digest.update(len(part).to_bytes(4, "little"))
                digest.update(part)
            rows += 1
    print(f"{rows} {digest.hexdigest()}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        print(f"usage: {sys.argv[0]} FILE.parquet", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
