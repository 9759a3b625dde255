"""The routes of ``/api/v1``: each reads the request, calls one function of ``service``, and returns its result."""

PREFIX = "/api/v1"
