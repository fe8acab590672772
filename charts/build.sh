#!/usr/bin/env bash
# Put each chart's dependencies, all of them folders beside it, where Helm looks for them. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")"
for chart in postgres minio seaweedfs mlflow training api operator credit-risk; do
    rm -rf "$chart/charts" "$chart/Chart.lock"
    "${HELM:-helm}" dependency build "$chart" >/dev/null
done
