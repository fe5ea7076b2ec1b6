"""Who may ask for what: API keys, of which only hashes are stored, and the role that each of them has."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastapi import Request
from starlette.requests import HTTPConnection

from api.errors import ForbiddenError, UnauthorizedError

Role = Literal["read-only", "operator"]
"""What a key allows: to look at things, or also to start, cancel, write and delete."""

KEY_HEADER = "X-API-Key"
READ_ONLY: dict[str, Any] = {"x-pyama-role": "read-only"}
"""`openapi_extra` of a POST route that changes nothing, so that a read-only key is enough for it."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_READING = {"GET", "HEAD", "OPTIONS"}
_FREE = re.compile(r"(/api/v1)?/health(/.*)?|/|/page/.*")


@dataclass(frozen=True)
class ApiKey:
    """A key that the API knows."""

    name: str
    """Who uses it; told in the log."""
    role: Role
    digest: str
    """SHA-256 of the key, in hexadecimal."""


def new_api_key(name: str, role: Role) -> tuple[str, str]:
    """Make a key.

    Returns
    -------
    tuple
        The key, for its user alone; and the entry `NAME:ROLE:SHA256` for PYAMA_API_KEYS.
    """
    key = f"pyama_{secrets.token_urlsafe(32)}"
    return key, f"{name}:{role}:{_digest(key)}"


def parse_api_key(entry: object) -> ApiKey:
    """Understand an entry of PYAMA_API_KEYS.

    Raises
    ------
    ValueError
        Where it has not the form `NAME:ROLE:SHA256`; does not repeat what was given.
    """
    if isinstance(entry, ApiKey):
        return entry
    name, role, digest = [*str(entry).split(":"), "", ""][:3]
    for known in get_args(Role):
        if role == known and _NAME.fullmatch(name) and _DIGEST.fullmatch(digest.lower()) and str(entry).count(":") == 2:
            return ApiKey(name, known, digest.lower())
    raise ValueError(
        f"each key is written as NAME:ROLE:SHA256, where ROLE is one of {', '.join(get_args(Role))} "
        "and SHA256 is the hexadecimal hash of the key"
    )


def needs_no_key(path: str) -> bool:
    """Whether an address answers anybody: those that tell whether the API lives, and the page that asks for a key."""
    return _FREE.fullmatch(path) is not None


def identify(request: HTTPConnection, keys: Sequence[ApiKey]) -> ApiKey:
    """Find the key that a request brings, as `X-API-Key: KEY` or `Authorization: Bearer KEY`.

    Raises
    ------
    UnauthorizedError
        Where there is none, or none that is known.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = request.headers.get(KEY_HEADER) or (token.strip() if scheme.lower() == "bearer" else "")
    found: ApiKey | None = None
    # Every key is compared, and in constant time, so that the time taken tells nothing.
    for key in keys:
        if hmac.compare_digest(key.digest, _digest(given)):
            found = key
    if found is None:
        what = "the API key is not known" if given else "an API key is needed"
        raise UnauthorizedError(
            f"{what}; send it in the header {KEY_HEADER}, or as Authorization: Bearer KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


async def check_role(request: Request) -> None:
    """Refuse what changes something to whoever has a read-only key; a dependency of all routes.

    Raises
    ------
    ForbiddenError
        Naming the role that is needed.
    """
    key: ApiKey | None = request.scope.get("pyama.key")
    if key is None or key.role == "operator" or request.method in _READING:
        return
    if (getattr(request.scope.get("route"), "openapi_extra", None) or {}).get("x-pyama-role") != "read-only":
        raise ForbiddenError(f"the API key of {key.name!r} is read-only; this needs a key of the role operator")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
