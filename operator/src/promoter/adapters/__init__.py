"""I/O behind the ports: Kubernetes, MLflow and the pods' metrics."""
