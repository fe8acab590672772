"""I/O behind the ports: Kubernetes, MLflow, the scoring pods and Prometheus."""
