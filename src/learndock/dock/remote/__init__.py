"""A dock that a service holds, over HTTP."""
