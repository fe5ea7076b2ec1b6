"""Where a path leads, and whether that lies inside the allowed folders."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def is_inside(resolved: Path, roots: Sequence[Path] | None) -> bool:
    """Whether a resolved path lies in one of the folders; always, where there is no restriction."""
    return roots is None or any(resolved.is_relative_to(root) for root in roots)


def resolve(path: Path) -> Path | None:
    """Follow all symbolic links and `..`, also of what is not there yet; None where links lead in a circle."""
    try:
        resolved = path.resolve()
    except (RuntimeError, OSError):  # Python 3.11 and 3.12 raise RuntimeError for a circle
        return None
    # Python 3.13 leaves a circle as it is.
    with suppress(OSError):
        if resolved.is_symlink():
            return None
    return resolved
