"""Where the files of a recording lie: in its own folder, links followed."""

from pathlib import Path

from tasks.acquisition.damage import RefusedError


def inside(path: Path, folder: Path) -> Path:
    """Follow the links of a file of a recording, which must not lead out of its folder.

    A recording that names its files, or holds links, could otherwise have any file of the machine read.

    Parameters
    ----------
    path
        The file.
    folder
        Folder of the recording, its links followed.

    Returns
    -------
    Path
        Where the file is; it may not be there.

    Raises
    ------
    RefusedError
        Where it lies outside, or its links lead in a circle.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 raise RuntimeError for a circle
        raise RefusedError(f"its file {path.name!r} is a link that leads nowhere") from error
    if not resolved.is_relative_to(folder):
        raise RefusedError(f"its file {path.name!r} leads out of the folder of the recording")
    return resolved
