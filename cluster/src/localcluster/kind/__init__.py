"""The cluster on kind, where Docker is."""
