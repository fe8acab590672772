"""What the plugin reads from and writes to a cluster, all through kubectl."""
