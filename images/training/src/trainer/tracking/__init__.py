"""MLflow: runs, model versions and the Production pointer."""
