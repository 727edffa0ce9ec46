"""Client credentials: how they are made, hashed and checked (RFC 6749 §2.3)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import Protocol

from records import Client, utc_now
from storage import Storage

_ALPHABET = string.digits + string.ascii_letters
CLIENT_ID = re.compile(r"klm_[0-9A-Za-z]{16}")
# `Access-Token` is also how a server sees `access_token`, the first design's name, where it lets that through.
_KEY_HEADERS = ("X-API-Key", "Access-Token")
_NO_HASH = "0" * 64


class Headers(Protocol):
    """Request headers, whatever the framework: looked up by name in any case."""

    def get(self, name: str, /) -> str | None: ...


class CredentialsError(Exception):
    """A client did not authenticate."""


class InvalidClient(CredentialsError):
    """The credentials are not those of an enabled client. One message for every reason."""

    def __init__(self) -> None:
        super().__init__("The client's credentials are not valid.")


class AmbiguousCredentials(CredentialsError):
    """The request authenticates in more than one way (RFC 6749 §2.3, RFC 6750 §2)."""

    def __init__(self) -> None:
        super().__init__("The request must authenticate in one way only.")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client is given once. Only `key_hash` is kept."""

    client_id: str
    client_secret: str

    @property
    def api_key(self) -> str:
        return f"{self.client_id}.{self.client_secret}"

    @property
    def key_hash(self) -> str:
        return _hash(self.client_id, self.client_secret)


def new_credentials(client_id: str | None = None) -> Credentials:
    """New credentials, or a new secret for an existing client.

    The secret is `kls_`, 43 characters of base 62 (256 random bits) and their CRC-32 in base 62: a form that secret
    scanners recognise without false alarms.
    """
    random = _random(43)
    return Credentials(client_id or f"klm_{_random(16)}", f"kls_{random}{checksum(random)}")


def register(storage: Storage, name: str, scopes: tuple[str, ...]) -> Credentials:
    """Store a new client and return its credentials, which nobody can read again."""
    credentials = new_credentials()
    storage.add_client(
        Client(
            client_id=credentials.client_id,
            name=name,
            scopes=scopes,
            key_hash=credentials.key_hash,
            created_at=utc_now(),
        )
    )
    return credentials


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def checksum(random: str) -> str:
    """CRC-32 of the random part, in six digits of base 62."""
    value, digits = zlib.crc32(random.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def authenticate(storage: Storage, client_id: str, client_secret: str) -> Client:
    """The enabled client with these credentials.

    Every path makes the same look-up, hash and comparisons, so that time tells no reason apart, nor how many keys a
    client has.

    Raises: `InvalidClient`.
    """
    client = storage.client(client_id if CLIENT_ID.fullmatch(client_id) else "")
    given = _hash(client_id, client_secret)
    known = (client.key_hash, client.previous_key_hash) if client else (None, None)
    matches = [hmac.compare_digest(given, key_hash or _NO_HASH) for key_hash in known]
    if client is None or client.disabled or not any(matches):
        raise InvalidClient
    return client


def _hash(client_id: str, client_secret: str) -> str:
    # The secret has 256 random bits: a slow hash would protect nothing, and cost each request.
    return hashlib.sha256(f"{client_id}.{client_secret}".encode(errors="surrogatepass")).hexdigest()


def presented_api_key(headers: Headers) -> str | None:
    """The API key in the headers, if there is one. Raises: `AmbiguousCredentials` for two."""
    keys = [key for name in _KEY_HEADERS if (key := headers.get(name))]
    if len(keys) > 1:
        raise AmbiguousCredentials
    return keys[0] if keys else None


def parse_api_key(api_key: str) -> tuple[str, str]:
    """Client id and secret of an API key `<client_id>.<client_secret>`; a key without a dot has an empty secret."""
    client_id, _, client_secret = api_key.partition(".")
    return client_id, client_secret
