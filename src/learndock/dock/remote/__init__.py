"""The dock of a service, over HTTP."""
