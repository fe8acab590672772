"""HTTP on plain ASGI, and limits on connections."""
