"""Who may ask what: keys with scopes, and what a browser must not be made to do.

Without keys a server listens to this machine alone, and to requests that name it: a page that made
its own name point here (DNS rebinding) names itself in Host, and one that posts to us across sites
names itself in Origin.
"""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from miloco_edge.errors import ConfigError
from miloco_edge.hosts import is_local, named
from miloco_edge.serve.refusal import Refusal

Scope = Literal["read", "ask", "watch", "admin"]
"""read: models, properties, metrics. ask: answers and decisions. watch: events and their
pictures. admin: load and unload."""
ALL: frozenset[Scope] = frozenset(get_args(Scope))


@dataclass(frozen=True)
class Key:
    """A secret, held as its digest, and what it opens."""

    name: str
    digest: bytes
    scopes: frozenset[Scope] = ALL

    @classmethod
    def of(cls, name: str, secret: str, scopes: Iterable[Scope] = ALL) -> Key:
        """A key from the secret itself."""
        return cls(name, hashlib.sha256(secret.encode()).digest(), frozenset(scopes))


@dataclass(frozen=True)
class Access:
    """What a server lets in."""

    keys: tuple[Key, ...] = ()
    hosts: frozenset[str] = frozenset()
    """Names by which the server may be called, without ports, besides this machine's own for
    itself; "*" is any. Not looked at with keys, since a page on another site does not know one."""

    def key(self, headers: Mapping[str, str]) -> Key | None:
        """The key that a request carries; None where there are no keys at all.

        Raises Refusal 401. All keys are compared, each in constant time.
        """
        if not self.keys:
            return None
        kind, _, secret = headers.get("authorization", "").partition(" ")
        # As the bytes that were sent, which a secret is hashed in: headers are read as Latin-1.
        digest = hashlib.sha256(secret.strip().encode("latin-1")).digest()
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if kind.lower() != "bearer" or not found:
            raise Refusal(401, "invalid_api_key", "expected a valid key as a bearer token")
        return found[0]

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise Refusal 403 for a request that a page of another site has made a browser send."""
        host = headers.get("host", "")
        name = named(host)
        known = is_local(name) or name in self.hosts or "*" in self.hosts
        if not self.keys and not known:
            raise Refusal(403, "wrong_host", "expected a request to a name of this server")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, "cross_origin", "requests from other sites are not answered")


def allow(key: Key | None, scope: Scope) -> None:
    """Raise Refusal 403 unless the key opens the scope; without keys everything is open."""
    if key is not None and scope not in key.scopes:
        raise Refusal(403, "scope", f"expected a key with the scope {scope}")


def read_keys(path: Path) -> tuple[Key, ...]:
    """Keys from a TOML file. Raises ConfigError, OSError.

    [key.home-assistant]
    secret = "…"                   # or sha256 = "hex of the secret's digest"
    scopes = ["read", "ask"]       # all of them by default
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("key", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, None, None, f"expected TOML, got {error}") from error
    if not isinstance(tables, dict):
        raise ConfigError(path, None, "key", "expected [key.NAME] tables, got something else")
    keys = [_read_key(path, name, table) for name, table in tables.items()]
    if not keys:
        raise ConfigError(path, None, "key", "expected at least one [key.NAME], got none")
    return tuple(keys)


def _read_key(path: Path, name: str, table: object) -> Key:
    where = f"key.{name}"
    if not isinstance(table, dict) or not set(table) <= {"secret", "sha256", "scopes"}:
        raise ConfigError(path, None, where, "expected secret or sha256, and scopes")
    scopes = table.get("scopes", list(ALL))
    if not isinstance(scopes, list) or not set(scopes) <= ALL:
        raise ConfigError(path, None, where, f"expected scopes of {', '.join(sorted(ALL))}")
    secret, digest = table.get("secret"), table.get("sha256")
    if isinstance(secret, str) and len(secret) >= 8 and digest is None:
        return Key.of(name, secret, scopes)
    if isinstance(digest, str) and secret is None and len(digest) == 64:
        try:
            return Key(name, bytes.fromhex(digest), frozenset(scopes))
        except ValueError:
            pass  # said below
    raise ConfigError(
        path, None, where, "expected a secret of 8 or more characters, or sha256 with 64 hex digits"
    )
