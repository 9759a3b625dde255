"""A connection that misbehaves: a TCP proxy on loopback between a service and one of its stores."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

#: pass: as it comes. refuse: new connections are closed, running ones cut. busy: HTTP 503. slow: a pause before each
#: piece. cut: connections break off at random while bytes are on their way.
Fault = Literal["pass", "refuse", "busy", "slow", "cut"]
BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 61\r\nConnection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>\n\n"
)


class Faults:
    """A running proxy; ``fault`` may be set at any time."""

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self._target, self._draw = port, random.Random(seed)
        self._fault: Fault = "pass"
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault in ("refuse", "busy"):
            self.cut_all()

    def cut_all(self) -> None:
        """Break off all connections."""
        for each in list(self._open):
            _close(each)

    def close(self) -> None:
        self._listening.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._fault == "refuse":
                _close(client)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._fault == "busy":
            with contextlib.suppress(OSError), client:
                client.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    while client.recv(1 << 16):
                        pass
                client.sendall(BUSY)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        self._open |= {client, server}
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if self._fault == "slow":
                    time.sleep(self._draw.uniform(0.02, 0.15))
                elif self._fault == "cut" and self._draw.random() < 0.05:
                    target.sendall(piece[: len(piece) // 2])
                    break
                target.sendall(piece)
        for each in (source, target):
            _close(each)
            self._open.discard(each)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextlib.contextmanager
def faults(port: int, *, seed: int = 0) -> Iterator[Faults]:
    """A proxy in front of a port of this machine until the block ends."""
    found = Faults(port, seed=seed)
    try:
        yield found
    finally:
        found.close()
