#!/usr/bin/env bash
# Package the umbrella chart, push it to an OCI registry, and sign it by its digest. Arguments: the registry, such as
# oci://ghcr.io/OWNER/charts, and the version.
set -euo pipefail
registry=${1:?the registry, oci://...}
version=${2:?the version}
cd "$(dirname "$0")/../.."
charts/build.sh
folder=$(mktemp -d)
helm package charts/credit-risk --version "$version" --app-version "$version" --destination "$folder"
helm push "$folder/credit-risk-$version.tgz" "$registry" 2>&1 | tee "$folder/push.log"
digest=$(sed -n 's/^Digest: *//p' "$folder/push.log")
[ -n "$digest" ] || { echo "helm push printed no digest" >&2; exit 1; }
cosign sign --yes "${registry#oci://}/credit-risk@$digest"
