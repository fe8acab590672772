"""HTTP on plain ASGI: dispatching, error answers, and limits on connections."""
