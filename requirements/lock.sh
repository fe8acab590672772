#!/usr/bin/env bash
# Write the hash-pinned locks: one with everything (dev.txt) and, constrained to the same versions, one per image
# and per engine of bulk scoring.
# No index URL is written. PIP_FIND_LINKS is honored because not every index has the CPU build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    local out=$1
    shift
    uv pip compile pyproject.toml --python-version 3.11 --quiet --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} \
        --output-file "requirements/$out.txt" "$@"
    echo "requirements/$out.txt: $(grep -c == "requirements/$out.txt") packages"
}
compile dev --extra api --extra tracing --extra training --extra mlflow --extra operator --extra decisions --extra bulk \
    --extra delta --extra iceberg --extra cli --extra dev "$@"
for extra in build mlflow spark ray; do
    compile "$extra" --extra "$extra" --constraint requirements/dev.txt
done
for extra in api training operator; do
    compile "$extra" --extra "$extra" --extra tracing --constraint requirements/dev.txt
done
# Bulk scoring's Job runs in this image, and reads tables.
compile decisions --extra decisions --extra delta --extra iceberg --extra tracing --constraint requirements/dev.txt
