"""Media by address, from hosts that the owner of the server has named, and from no others.

A name is resolved once and its address pinned, so that what was checked is what is connected to.
No redirect is followed, no proxy asked; size, time and type are capped.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from miloco_edge.serve.media import Medium, Remote
from miloco_edge.serve.refusal import Refusal, bad_request

_PORTS = {"http": 80, "https": 443}
_TYPES = {"picture": ("image/",), "frames": ("image/",), "video": ("video/",)}

Resolve = Callable[[str, int], Sequence[str]]
"""Host and port to addresses."""


class Fetcher:
    """Fetches from allowed origins (https://ha.local:8123); refuses everything else."""

    def __init__(
        self,
        origins: Sequence[str] = (),
        *,
        most_bytes: int = 16 << 20,
        seconds: float = 10.0,
        resolve: Resolve | None = None,
    ) -> None:
        self._origins = {_origin(origin) for origin in origins}
        self._most_bytes, self._seconds = most_bytes, seconds
        self._resolve = resolve or _resolve

    async def fetch(self, remote: Remote) -> Medium:
        """The medium at an address. Raises Refusal."""
        try:
            origin = _origin(remote.url)
        except ValueError:
            origin = None
        if origin is None or origin not in self._origins:
            raise bad_request(
                "remote_media",
                "expected media by value, as a data URI; this host is not on the server's list",
            )
        data = await asyncio.to_thread(self._get, origin, remote)
        return Medium(remote.kind, (base64.b64encode(data).decode(),), remote.fps)

    def _get(self, origin: tuple[str, str, int], remote: Remote) -> bytes:
        scheme, host, port = origin
        split = urllib.parse.urlsplit(remote.url)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        try:
            address = self._address(host, port)
            with socket.create_connection((address, port), timeout=self._seconds) as raw:
                # A host that sends a byte now and then never times out by itself.
                late = _Late(raw, self._seconds)
                try:
                    connection = http.client.HTTPConnection(host, port)
                    connection.sock = raw
                    if scheme == "https":
                        context = ssl.create_default_context()
                        connection.sock = context.wrap_socket(raw, server_hostname=host)
                    with closing(connection):
                        connection.request("GET", target, headers={"Accept": "image/*, video/*"})
                        with closing(connection.getresponse()) as response:
                            return self._read(response, remote)
                finally:
                    late.close()
                    if late.over.is_set():
                        raise _failed("the host was too slow")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed("the host could not be reached") from error

    def _read(self, response: http.client.HTTPResponse, remote: Remote) -> bytes:
        if response.status != 200:
            raise _failed("the host did not answer with status 200")
        kind = (response.getheader("Content-Type") or "").lower()
        if not kind.startswith(_TYPES[remote.kind]):
            raise _failed("the host sent another type")
        data = response.read(self._most_bytes + 1)
        if len(data) > self._most_bytes:
            raise _failed("the host sent too much")
        return data

    def _address(self, host: str, port: int) -> str:
        """Where a name points, now and for all of this request."""
        for address in self._resolve(host, port):
            ip = ipaddress.ip_address(address.partition("%")[0])
            ip = getattr(ip, "ipv4_mapped", None) or ip
            literal = host in (address, f"[{address}]", "localhost")
            # A listed name of the home may be private; none may be led to this machine itself or
            # to a cloud's metadata, unless it was listed as just that.
            inward = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
            if literal or not inward:
                return address
        raise _failed("the host could not be reached")


class _Late:
    """Hangs up on a connection once its time is over."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        # A descriptor of its own: TLS takes the other one over.
        self._connection = connection.dup()
        self.over = threading.Event()
        self._timer = threading.Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Time no longer matters."""
        self._timer.cancel()
        self._connection.close()

    def _hang_up(self) -> None:
        self.over.set()
        with suppress(OSError):  # it was over just now
            self._connection.shutdown(socket.SHUT_RDWR)


def _resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError."""
    split = urllib.parse.urlsplit(url)
    if split.scheme not in _PORTS or not split.hostname or split.username or split.password:
        raise ValueError("expected http(s)://HOST[:PORT] without a name and password")
    return split.scheme, split.hostname.lower(), split.port or _PORTS[split.scheme]


def _failed(why: str) -> Refusal:
    return Refusal(400, "remote_media", f"the media could not be fetched: {why}")
