"""OpenTelemetry traces. Imported only where they are exported: without an endpoint, nothing of it runs or is loaded."""
