"""Track runs, register model versions and move the Production pointer in MLflow."""
