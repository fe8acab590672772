from unit.decisions.service.fixtures import decisions_server, site

__all__ = ["decisions_server", "site"]
