"""A real single-node Kubernetes from Debian's, npm's and PyPI's packages, where there is no Docker."""
