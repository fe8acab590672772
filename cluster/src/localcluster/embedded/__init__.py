"""The embedded cluster: a real single-node Kubernetes built from Debian, npm and PyPI packages, without Docker."""
