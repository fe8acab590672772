from unit.decisions.service.fixtures import decisions_server, running, site

__all__ = ["decisions_server", "running", "site"]
