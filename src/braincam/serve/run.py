"""Start the server, and end it gently."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

import uvicorn

from braincam.errors import ConfigError
from braincam.predict import Predictor
from braincam.progress import say
from braincam.serve.app import create_app
from braincam.serve.settings import Settings

GRACE = 30  # seconds that accepted requests get after SIGTERM
IDLE = 15  # seconds that a silent connection is kept


def serve(predictor: Predictor, settings: Settings, port: int) -> None:
    """Answer until SIGTERM or Ctrl-C; what was accepted is finished first.

    Raises:
        ConfigError: the port is taken or not allowed.
    """
    logging.getLogger("braincam.serve").setLevel(logging.INFO)
    logging.getLogger("python_multipart").disabled = True  # it quotes what it cannot parse
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, port))
        listener.listen()  # who reads the address below may connect at once
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"serve: cannot listen on {settings.host}:{port} ({error}); choose another --port") from error
    number = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"{predictor.card.name} answers on http://{host}:{number}  (Ctrl-C ends it)")
    config = uvicorn.Config(
        create_app(predictor, settings),
        access_log=False,  # its lines hold queries
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=IDLE,
        h11_max_incomplete_event_size=2**16,
    )
    with listener, suppress(KeyboardInterrupt):  # raised again by uvicorn once everything accepted is answered
        uvicorn.Server(config).run(sockets=[listener])
