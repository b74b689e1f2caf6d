"""Who may ask: a token for everything but loopback, and no other site's pages through a browser.

A browser on this machine can be made to call a server on loopback, by a page of another site: directly, or by giving
its own name this machine's address (DNS rebinding). The first shows in the header Origin, the second in Host.
"""

from __future__ import annotations

import codecs
import hmac
import ipaddress
import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from braincam.errors import ConfigError

VARIABLE = "BRAINCAM_TOKEN"
SHORTEST = 16  # characters
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def find_token(file: Path | None) -> str | None:
    """The token from a file's first line, else from the environment, else None.

    Raises:
        ConfigError: it is too short to be a secret, or cannot stand in a header.
        OSError: the file cannot be read.
    """
    if file is None and not os.environ.get(VARIABLE):
        return None
    where = VARIABLE if file is None else str(file)
    text = os.environ[VARIABLE] if file is None else _text_of(file)
    token = text.strip().partition("\n")[0].strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where}: expected a token of at least {SHORTEST} letters, digits and signs, got one of {len(token)} "
            "characters; make one with: openssl rand -hex 32"
        )
    return token


def _text_of(file: Path) -> str:
    """A text file in UTF-8, or as PowerShell writes it: UTF-16 with a mark in front."""
    content = file.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to serve others without a token. Raises ConfigError."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"serve: expected a token for the host {host}, which others can reach, got none; "
            f"set {VARIABLE}, give --token-file, or serve on 127.0.0.1"
        )


def check_token(given: str | None, token: str) -> None:
    """Compare in a time that does not tell how much was right. Raises HTTPException 401."""
    if not hmac.compare_digest((given or "").encode(), token.encode()):
        raise HTTPException(
            401,
            "expected the header Authorization: Bearer TOKEN with the server's token",
            {"WWW-Authenticate": "Bearer"},
        )


def check_site(headers: Headers, loopback: bool) -> None:
    """Refuse calls that a page of another site makes through a browser. Raises HTTPException 403."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if loopback and not _names_this_machine(host):
        raise HTTPException(403, "this server answers on this machine only, under localhost or 127.0.0.1")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise HTTPException(403, "this server does not answer pages of other sites")


def _names_this_machine(host: str) -> bool:
    """Whether a Host header, with or without a port, is one of loopback's names."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() in LOOPBACK_NAMES or is_loopback(name)
