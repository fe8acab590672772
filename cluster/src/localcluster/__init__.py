"""The code behind `make up` and `make down`: local clusters (kind and embedded), their images, and the stack on top."""
