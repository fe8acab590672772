"""The two local clusters, the images they run, and the stack on top: what `make up` and `make down` call."""
