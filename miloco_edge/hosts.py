"""What hosts are called in URLs and headers, and which of them are this machine alone."""

from __future__ import annotations

import ipaddress


def is_local(host: str) -> bool:
    """Whether what listens there is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def named(header: str) -> str:
    """The name in a Host header, without its port, in small letters: [::1]:7860 is ::1."""
    host = header.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
