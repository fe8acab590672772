#!/bin/sh
# Dump the database into the workspace, with a description for the manifest. psql and pg_dump connect by PG* variables.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$WORKSPACE"
rm -f database.dump database.partial database.json tables.tsv
sh "$here/wait.sh"
echo "dumping the database $PGDATABASE on $PGHOST:$PGPORT"
psql --no-psqlrc --quiet --tuples-only --no-align --field-separator="$(printf '\t')" --set=ON_ERROR_STOP=1 \
    --set=describe="${DESCRIBE:-mlflow.sql}" --file="$here/dump.sql"
# psql goes on after a failed shell command: a dump is complete when it has its final name.
if [ ! -s database.dump ]; then
    echo "pg_dump failed: see its message above" >&2
    exit 1
fi
echo "dumped $(wc -l <tables.tsv) tables, $(wc -c <database.dump) bytes"
