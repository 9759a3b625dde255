"""Run the application: a socket, uvicorn, and a graceful stop."""

from __future__ import annotations

import socket
import time

import uvicorn

from learndock.errors import UsageError
from learndock.http.address import reachable
from learndock.http.app import create_app, with_middleware
from learndock.http.protocol import protocol_with
from learndock.service.service import Service
from learndock.spaces import get_space


class RunningServer:
    """A server that is bound to its address; ``run`` serves until ``stop``."""

    def __init__(self, server: uvicorn.Server, listening: socket.socket, url: str) -> None:
        self._server, self._socket = server, listening
        self.url = url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serve until a signal ends the process; running requests are answered first."""
        self._server.run(sockets=[self._socket])

    def wait(self, seconds: float = 30.0) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + seconds
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        """Answer the running requests, then end."""
        self._server.should_exit = True


def start(service: Service) -> RunningServer:
    """Bind to the address of the settings.

    Raises:
        UsageError: it is taken, or not an address of this machine.
        SpaceError: there is no space of the name in ``route_space``.
    """
    settings = service.settings
    if settings.route_space:
        get_space(settings.route_space)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)  # who connects from now on waits, and is answered when all is ready
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot bind to this address ({error.strerror})",
            remedy="name another with --port or --host",
            about=f"{settings.host}:{settings.port}",
        ) from None
    url = settings.public_url.rstrip("/") or f"http://{reachable(settings.host)}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        with_middleware(create_app(service)),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # see forwarded.py
        date_header=True,
        lifespan="on",
        backlog=2048,
        http=protocol_with(settings.request_seconds),
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.stop_seconds),
    )
    return RunningServer(uvicorn.Server(config), listening, url)
