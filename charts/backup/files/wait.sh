#!/bin/sh
# Wait at most two minutes for the database, which may be starting after its volume was lost.
set -eu
left=60
until pg_isready --quiet; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then
        echo "the database on $PGHOST:$PGPORT accepts no connections" >&2
        exit 1
    fi
    echo "waiting for the database on $PGHOST:$PGPORT"
    sleep 2
done
