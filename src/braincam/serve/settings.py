"""How much a server takes, and from whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from braincam.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
TOKEN_LENGTH = 16  # characters: fewer can be guessed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits that hold before anything is decoded; the readers have limits of their own for what is inside a file."""

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    max_bytes: int = 256 * 2**20  # of a whole request
    max_files: int = 1000  # of a request
    upload_seconds: float = 60  # for a request to arrive
    answer_seconds: float = 120  # for it to be answered
    workers: int = 2  # requests answered at the same time
    queue: int = 16  # requests that may wait for that

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_files", "upload_seconds", "answer_seconds", "workers"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"serve: {name}: expected more than 0, got {getattr(self, name)}")
        if self.queue < 0:
            raise ConfigError(f"serve: queue: expected 0 or more, got {self.queue}")
        if self.token is not None and len(self.token) < TOKEN_LENGTH:
            raise ConfigError(f"serve: token: expected at least {TOKEN_LENGTH} characters, got {len(self.token)}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError("serve: token: expected printable ASCII characters; others do not survive a header")
        if not self.loopback and self.token is None:
            raise ConfigError(
                f"serve: {self.host} can be reached from other machines; set a token in BRAINCAM_TOKEN or with "
                "--token-file, or leave --host at 127.0.0.1"
            )

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names a request may be addressed to; none means any.

        On the loopback a foreign name means that a web page had its own name resolved to this machine (DNS rebinding).
        """
        return tuple(dict.fromkeys((*LOOPBACK, self.host))) if self.loopback else ()
