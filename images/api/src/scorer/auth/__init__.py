"""Who may call the service: access control by API keys or OpenID Connect."""
