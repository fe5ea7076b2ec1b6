"""Which paths a request may name: absolute ones, inside the allowed folders, that lead to a file or a folder."""

import errno
import ipaddress
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from api.containment import is_inside, resolve
from api.errors import ForbiddenError, InvalidRequestError, PathNotFoundError
from api.settings import Settings
from tasks.output.layout import LONGEST_NAME

LONGEST_PATH = 4096
"""Bytes that Linux lets a path have."""

_FORWARDING_HEADERS = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
_FORWARDING_PREFIX = "x-forwarded"
_LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR}
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def allowed_path(request: HTTPConnection, raw: str, field: str) -> Path:
    """Check a path that a request names; whether something is there is not asked, but what is there is.

    Looks at the disk: call it in a thread, never on the event loop.

    Parameters
    ----------
    request
        Tells the settings and who asks.
    raw
        The path as it came.
    field
        Name of the field that holds it, for the error message.

    Returns
    -------
    Path
        The path as it came, so that a recording keeps the name that its user knows; where `..` is in it, the
        one that it leads to.

    Raises
    ------
    InvalidRequestError
        Where it is no absolute path that can be, or leads to a device, FIFO or socket.
    ForbiddenError
        Where it leads out of the allowed folders, by symbolic links too; or where none are set and the request
        does not come from this host.
    """
    path = _well_formed(raw, field)
    roots = allowed_roots(request, field)
    resolved = resolve(path)
    if resolved is None and roots is None:
        raise InvalidRequestError(f"{field}: {shown(raw)} leads in a circle of symbolic links")
    if resolved is None or not is_inside(resolved, roots):
        raise ForbiddenError(
            f"{field}: {shown(raw)} is outside the folders that this server may use (set by PYAMA_ALLOWED_PATHS)"
        )
    kind = _special_kind(resolved)
    if kind is not None:
        raise InvalidRequestError(f"{field}: {shown(raw)} is {kind}, neither a file nor a folder")
    return resolved if ".." in path.parts else path


def existing_path(request: HTTPConnection, raw: str, field: str) -> Path:
    """Check a path as `allowed_path` does, and that something is there.

    Raises
    ------
    PathNotFoundError
        Where nothing is there.
    """
    path = allowed_path(request, raw, field)
    try:
        path.stat()
    except OSError as error:
        raise refused(error, raw, field) from error
    return path


def existing_folder(request: HTTPConnection, raw: str, field: str) -> Path:
    """Check a path as `existing_path` does, and that it leads to a folder.

    Raises
    ------
    InvalidRequestError
        Where it leads to a file.
    """
    path = existing_path(request, raw, field)
    if not path.is_dir():
        raise InvalidRequestError(f"{field}: {shown(raw)} is a file, not a folder")
    return path


def refused(error: OSError, raw: str, field: str) -> InvalidRequestError | ForbiddenError | PathNotFoundError:
    """Tell what the operating system said of a path."""
    if error.errno in _LEADS_NOWHERE:
        return PathNotFoundError(f"{field}: {shown(raw)} does not exist")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ForbiddenError(f"{field}: {shown(raw)} may not be read by the server; ask for permission on the file")
    return InvalidRequestError(f"{field}: {shown(raw)} cannot be used: {error.strerror}")


def allowed_roots(request: HTTPConnection, field: str = "request") -> tuple[Path, ...] | None:
    """Folders that a request may name paths in; None where it may name any.

    Raises
    ------
    ForbiddenError
        Where no folders are set and the request does not come from this host.
    """
    settings: Settings = request.app.state.settings
    if settings.allowed_paths is None and not is_from_this_host(request, settings):
        raise ForbiddenError(
            f"{field}: only requests made on the server's own host and to its own name, not through a proxy or the "
            "page of another site, may name paths, until PYAMA_ALLOWED_PATHS is set to the folders that may be used"
        )
    if settings.allowed_paths is None:
        return None
    return tuple(root for root in map(resolve, settings.allowed_paths) if root is not None)


def is_from_this_host(request: HTTPConnection, settings: Settings) -> bool:
    """Whether a request was made on this host, and to it: not passed on by a proxy, not by a foreign web page."""
    if any(name in _FORWARDING_HEADERS or name.startswith(_FORWARDING_PREFIX) for name in request.headers):
        return False
    origin = request.headers.get("origin")
    # A page of any web site can have its visitor's browser ask this host, also under a name of its own that leads here:
    # then it counts as a page of this host, and tells no origin of what it only reads.
    if not _is_own_name(_host_of(f"http://{request.headers.get('host', '')}"), settings):
        return False
    if origin is not None and origin not in settings.cors_origins and not _is_loopback(_host_of(origin)):
        return False
    return request.client is not None and _is_loopback(request.client.host)


def shown(raw: str) -> str:
    """Show a path in a message, shortened in its middle."""
    text = repr(raw)
    return text if len(text) <= 300 else f"{text[:150]}…{text[-140:]}"


def _well_formed(raw: str, field: str) -> Path:
    if "\0" in raw:
        raise InvalidRequestError(f"{field}: a path cannot contain a NUL character (got {shown(raw)})")
    try:
        encoded = raw.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{field}: a path must be valid Unicode text (got {shown(raw)})") from error
    if not raw.startswith("/"):
        raise InvalidRequestError(
            f"{field}: must be an absolute path, e.g. /data/experiment.nd2 (got {shown(raw) if raw else 'none'})"
        )
    if len(encoded) >= LONGEST_PATH or max(map(len, encoded.split(b"/"))) > LONGEST_NAME:
        raise InvalidRequestError(
            f"{field}: the path is too long: at most {LONGEST_PATH - 1} bytes, and {LONGEST_NAME} for each name in it "
            f"(got {len(encoded)} bytes: {shown(raw)})"
        )
    return Path(raw)


def _special_kind(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return _KINDS.get(stat.S_IFMT(mode))


def _is_own_name(host: str, settings: Settings) -> bool:
    return _is_loopback(host) or (host != "" and host in {socket.gethostname().lower(), _host_of(settings.url)})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
