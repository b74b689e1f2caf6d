"""What one client, and all of them together, may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from braincam.errors import ConfigError
from braincam.images import SizeLimits

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every limit of the server. All are checked before anything is decoded, or end what takes too long.

    Raises:
        ConfigError: a number below 1, or below 0 for `waiting`; or memory that a whole body does not fit into.
    """

    bytes: int = 256 * MEBIBYTE  # of one request's body
    memory: int = 1024 * MEBIBYTE  # of all bodies and answers held at once
    files: int = 1024  # in one request: a series
    slices: int = 1024  # in one request, over all its files
    pixels: int = 2**24  # in one slice: 4096 x 4096
    voxels: int = 2**27  # in one request, over all its slices: 512 x 512 x 512
    upload_seconds: float = 60.0  # from a request's head to the end of its body
    answer_seconds: float = 60.0  # from the end of the body to the answer, waiting included
    head_seconds: float = 10.0  # from a connection, or the last answer on it, to the end of a request's head
    send_seconds: float = 60.0  # that a client may leave an answer unread
    linger_seconds: float = 5.0  # that the rest of a refused body is read and dropped, so that the refusal arrives
    connections: int = 512  # open at once
    waiting: int = 64  # requests that wait for a worker; the next one is told to come back

    def __post_init__(self) -> None:
        for item in fields(self):
            least, got = 0 if item.name == "waiting" else 1, getattr(self, item.name)
            if not got >= least:
                raise ConfigError(f"serve: expected {item.name} of at least {least}, got {got}; give a larger number")
        if self.memory < self.bytes:  # such a body would be told to come back for ever
            held, sent = f"{self.memory / MEBIBYTE:g} MiB", f"{self.bytes / MEBIBYTE:g} MiB"
            raise ConfigError(
                f"serve: expected memory for a whole request of {sent}, got {held}; raise --max-memory-megabytes, or "
                "lower --max-megabytes"
            )

    def of_a_file(self, slices: int, voxels: int) -> SizeLimits:
        """What the next file of a request may hold after files with so many slices and voxels."""
        return SizeLimits(
            pixels=self.pixels,
            slices=self.slices - slices,
            voxels=self.voxels - voxels,
            bytes=4 * self.voxels,
            advice="that is what other files left of this request: send this one apart" if slices else "split the file",
        )


class Memory:
    """Bytes held for all requests together; used from the event loop's thread only."""

    def __init__(self, limit: int):
        self.limit = limit
        self.held = 0

    def take(self, count: int) -> bool:
        """Reserve `count` bytes, or say that they are not to be had."""
        if self.held + count > self.limit:
            return False
        self.held += count
        return True

    def give(self, count: int) -> None:
        """Hand back what was taken."""
        self.held -= count
