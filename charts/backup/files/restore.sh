#!/bin/sh
# Replace the database's content by the dump in the workspace: all of it in one transaction, or nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$WORKSPACE"
rm -f database.restored
sh "$here/wait.sh"
echo "restoring the database $PGDATABASE on $PGHOST:$PGPORT"
# As SQL first: the script is whole before the first statement runs, and the comparison below joins its transaction.
# Extensions and schemas stay as they are: they belong to the server's administrator, who may be somebody else.
pg_restore --list --file=contents.txt database.dump
grep -vE '^[0-9]+; [0-9]+ [0-9]+ (EXTENSION -|COMMENT - EXTENSION|ACL - SCHEMA) ' contents.txt >restored.txt
if [ -z "${KEEP_PRIVILEGES:-}" ]; then
    set -- --no-privileges
fi
pg_restore --use-list=restored.txt --clean --if-exists --no-owner "$@" --file=database.sql database.dump
if ! psql --no-psqlrc --quiet --single-transaction --set=ON_ERROR_STOP=1 \
    --file="$here/empty.sql" --file=database.sql --file="$here/compare.sql" >/dev/null; then
    echo "the restore was rolled back: the database is as it was before" >&2
    exit 1
fi
rm -f database.sql
# Without it, `verify` does not report a restore.
touch database.restored
echo "restored $(wc -l <tables.tsv) tables; rows and checksums match the backup's"
