"""Listen, answer until told to stop, finish what was accepted."""

from __future__ import annotations

import logging
import math
import socket
import sys

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from braincam.errors import ConfigError
from braincam.images import GreySlice
from braincam.predict import Predictor
from braincam.serve.app import create_app
from braincam.serve.auth import check_exposure, is_loopback
from braincam.serve.frame import place
from braincam.serve.limits import Limits
from braincam.serve.patience import patient

KEEP_ALIVE_SECONDS = 5
BACKLOG = 1024  # connections that the system holds until they are accepted

log = logging.getLogger("braincam.serve")


def run(predictor: Predictor, limits: Limits, *, host: str, port: int, threads: int, token: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted by then is answered first. Port 0 means any free one.

    Raises:
        ConfigError: the host needs a token, or the address cannot be had.
    """
    check_exposure(host, token)
    list(predictor.judge([("warm-up", GreySlice(np.zeros((224, 224), np.uint8), None))]))
    # with a token a proxy on this machine may pass on the name under which it is called
    app = create_app(predictor, limits, threads, token=token, loopback=is_loopback(host) and token is None)
    with _listening(host, port) as listener:
        _log_to_stderr()
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        log.info("serving %s at %s (Ctrl-C stops)", predictor.card.name, url)
        try:
            server(app, limits).run(sockets=[listener])
        except KeyboardInterrupt:
            return  # uvicorn repeats the signal that stopped it, once all is done


def server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """uvicorn, set up so that it keeps to the limits and shows nothing of what clients send."""
    config = uvicorn.Config(
        app,
        http=patient(limits),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would show paths and query strings; `frame` logs
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(limits.upload_seconds + limits.answer_seconds + limits.send_seconds),
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()  # all addresses: IPv4's too
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise ConfigError(
            f"serve: cannot listen on {host} port {port} ({error.strerror}); choose another --host or --port"
        ) from error


class _Lines(logging.Formatter):
    """One line per record, without the text of exceptions, which may quote a file."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """The kind of an exception and where it came from."""
        error = ei[1] if isinstance(ei, tuple) else None
        return place(error) if isinstance(error, BaseException) else ""


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("braincam.serve", logging.INFO), ("uvicorn.error", logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
