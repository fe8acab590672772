"""The service that reads decisions and takes outcomes, over HTTP."""
