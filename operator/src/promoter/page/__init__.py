"""The read-only web page of the rollouts, as the operator knows them: HTML, and changes by server-sent events."""
