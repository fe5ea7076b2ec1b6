"""Addresses that are told of the end of jobs: how they are written, and which of them a job may name.

A job that could have the server ask any address would be a way into the network behind it. So an address counts only
where scheme, host and port are those of an entry of PYAMA_ALLOWED_WEBHOOKS, and its path is that of the entry or lies
below it. Nothing is left to how one program or another reads an unusual address: those are refused.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from api.errors import InvalidRequestError

WEBHOOK_LABEL = "pyama.webhook"
"""Label of a run: the address that its request wants to have told of its end."""

_LONGEST = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]!$&'()*+,;=%@-]+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


def normalize_webhook(text: str) -> str:
    """Write an address in the one way that it is compared and asked in: `scheme://host:port/path?query`.

    Raises
    ------
    ValueError
        Where it is no plain address of HTTP; the text does not repeat it, because addresses may hold secrets.
    """
    if len(text) > _LONGEST or not _CHARACTERS.fullmatch(text):
        raise ValueError(
            f"an address is at most {_LONGEST} characters of ASCII, without spaces, backslashes and #, e.g. "
            "https://hooks.example.org/pyama"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("an address is written as https://hooks.example.org/pyama is") from error
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError("an address begins with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("an address must not hold a user or a password; the signature tells who sends")
    host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("an address names a host, and where it needs one a port from 1 to 65535")
    path = unquote(parts.path)
    # Some servers drop what follows a semicolon before they resolve the dots.
    segments = {segment.partition(";")[0] for segment in re.split(r"[/\\]", path)}
    if {".", ".."} & segments or "%25" in parts.path or "\ufffd" in path:
        raise ValueError("the path of an address must not hold the segments . and .., however they are encoded")
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{host}:{port or _DEFAULT_PORTS[scheme]}{parts.path or '/'}{query}"


def normalize_allowed(text: str) -> str:
    """Write an entry of the allowed list, which stands for itself and for all below it.

    Raises
    ------
    ValueError
        Where it is no plain address of HTTP, or has a query.
    """
    if "?" in text:
        raise ValueError("an entry stands for a path and all below it, so it has no query (?)")
    return normalize_webhook(text)


Webhook = Annotated[str, Field(max_length=_LONGEST), AfterValidator(normalize_webhook)]
"""An address that is told of the end of jobs."""

WEBHOOK_FIELD = Field(
    None,
    description="Address that is told of the end of the job; one that PYAMA_ALLOWED_WEBHOOKS allows",
    examples=["https://hooks.example.org/pyama"],
)
"""The field of a request that starts a job."""


def is_allowed(webhook: str, allowed: Sequence[str]) -> bool:
    """Whether a normalized address is an entry of the list, or lies below one."""
    address = webhook.partition("?")[0]
    return any(address == entry or address.startswith(f"{entry.rstrip('/')}/") for entry in allowed)


def refuse_unlisted(webhook: str | None, allowed: Sequence[str]) -> None:
    """Refuse what a job may not name.

    Raises
    ------
    InvalidRequestError
        Naming the field, the host, and what helps.
    """
    if webhook is not None and not is_allowed(webhook, allowed):
        raise InvalidRequestError(
            f"webhook_url: {shown(webhook)} is not among the addresses that jobs may name; have it added to "
            "PYAMA_ALLOWED_WEBHOOKS of the server, or leave the field out"
        )


def receiver_id(webhook: str) -> str:
    """Short name of an address, which tells nothing of it."""
    return hashlib.sha256(webhook.encode()).hexdigest()[:16]


def shown(webhook: str) -> str:
    """Tell of an address in the log and in answers: without path and query, in which secrets may be."""
    parts = urlsplit(webhook)
    return f"{parts.scheme}://{parts.netloc}/…"
