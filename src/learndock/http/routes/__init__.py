"""The routes of ``/api/v1``: each reads the request, calls one function of ``service``, and shapes the answer."""

PREFIX = "/api/v1"
