#!/usr/bin/env bash
# Put each chart's dependencies, which are its sibling folders, into its charts/ folder. Safe to run repeatedly.
set -euo pipefail
cd "$(dirname "$0")"
# A chart comes after those it depends on: Helm packages a dependency as it is.
for chart in postgres minio seaweedfs mlflow training api backup decisions bulk operator monitoring credit-risk; do
    rm -rf "$chart/charts" "$chart/Chart.lock"
    "${HELM:-helm}" dependency build "$chart" >/dev/null
done
