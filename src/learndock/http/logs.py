"""Logs as lines of JSON on standard error: what happened, in which request; no field holds a secret."""

from __future__ import annotations

import json
import logging
import re
import sys
import time

FIELDS = ("request", "method", "path", "status", "ms", "bytes", "who", "error", "blob", "count", "url", "settings")
#: Whatever looks like a token is none when it is written.
_TOKEN = re.compile(r"ldk_[A-Za-z0-9_-]+")


class Logged(Exception):
    """An error that has its line in the log: what comes after writes no trace of it."""


def not_logged_yet(record: logging.LogRecord) -> bool:
    """Return whether a record is not the server's trace of an error that has its line."""
    return not (record.exc_info and isinstance(record.exc_info[1], Logged))


class Line(logging.Formatter):
    """One record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        found = {"at": at, "level": record.levelname.lower(), "from": record.name, "what": record.getMessage()}
        found |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            found["trace"] = self.formatException(record.exc_info)
        return _TOKEN.sub("ldk_...", json.dumps(found, ensure_ascii=False, default=str))


def install(level: str) -> None:
    """Send what learndock and its server log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    handler.addFilter(not_logged_yet)
    for name in ("learndock", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name == "learndock" else max(logging.getLevelName(level.upper()), 30))
