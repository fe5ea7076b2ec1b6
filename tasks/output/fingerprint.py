"""Fingerprints of a recording and of the parameters: equal ones promise equal bytes."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.acquisition import is_pattern, recording_files, recording_name
from tasks.configuration import Configuration, ScienceParameters
from tasks.errors import RecordingError, RecordingNotFoundError

SCIENCE_VERSION = 1
"""Raised whenever the same input and parameters give other numbers than before."""

OUTPUT_FORMAT = 1
"""Raised whenever the same numbers are written in another form."""

_LATER_CHOICES = ("segmentation", "tracking", "image_format", "parquet", "pictures")
_AS_BEFORE = {"pictures": False}
"""What they were before there was a choice, where it is not the default."""
_MIB = 1 << 20
_BLOCK = 64 << 10
_N_BLOCKS = 64
_LEAST_SAMPLE = 4096


@dataclass(frozen=True)
class Fingerprint:
    """What a result is determined by."""

    input: str
    """SHA-256 of the recording, see `input_fingerprint`."""
    parameters: str
    """SHA-256 of the parameters, see `parameter_fingerprint`."""
    science_version: int = SCIENCE_VERSION


def input_fingerprint(recording: Path) -> str:
    """Fingerprint of a recording's content, read in a moment however large it is.

    Of a recording in one file it is the SHA-256, in hexadecimal, over these bytes one after another, where `size` is
    the file's size:

    1. `size` as an unsigned 64-bit little-endian number;
    2. the first MiB, i.e. bytes 0 to `min(size, 2**20)`;
    3. the last MiB, i.e. bytes `max(0, size - 2**20)` to `size`;
    4. for i = 0, 1, ..., 63 the 64 KiB from `i * max(0, size - 65536) // 63` on, cut off at the end of the file.

    Name, path and times of the file have no part in it.

    Of a recording in n files, where names tell which image is which, it is the SHA-256 over these bytes:

    1. the pattern of a TIFF series that is named by one, from its first placeholder's folder or file on, in UTF-8; and
       a zero byte;
    2. for each file, in order of its path: its path below the folder that all have in common, in UTF-8; a zero byte;
       and the 32 bytes of its own SHA-256. That is over the bytes above, but the samples are shared out among the
       files: the first and last `max(4096, 2**20 // n)` bytes, and `b = max(3, 64 // n)` blocks of
       `max(4096, 2**22 // (b * n))` bytes.

    Raises
    ------
    RecordingNotFoundError
        Where there is no such file.
    RecordingError
        Where it cannot be read, or shrinks meanwhile.
    """
    files = sorted(recording_files(recording))
    if not files:
        raise RecordingNotFoundError(f"{recording}: there is no such file")
    if len(files) == 1 and not is_pattern(recording):
        return _sampled(files[0], 1).hex()
    pattern = recording_name(recording) if is_pattern(recording) else ""
    digest = hashlib.sha256(os.fsencode(pattern) + b"\0")
    folder = os.path.commonpath([file.parent for file in files])
    for file in files:
        digest.update(os.fsencode(file.relative_to(folder).as_posix()) + b"\0" + _sampled(file, len(files)))
    return digest.hexdigest()


def parameter_fingerprint(configuration: Configuration) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of all that changes the bytes of a result."""
    determining = {
        "output_format": OUTPUT_FORMAT,
        "parameters": canonical_parameters(configuration),
        "science_version": SCIENCE_VERSION,
    }
    text = json.dumps(determining, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_parameters(configuration: Configuration) -> dict[str, Any]:
    """Channels and science parameters in one JSON object, the same for requests that give the same result.

    The fluorescence channels are in order of their numbers, as they are in the table of traces. Where plugins have a
    part in it, their versions are there too. Choices that came later are not named where they are left as they were,
    so that results from before are still known as the same.
    """
    channels = configuration.channels.model_dump(mode="json")
    channels["fluorescence"].sort(key=lambda fluorescence: fluorescence["channel"])
    parameters = configuration.parameters.model_dump(mode="json")
    usual = ScienceParameters().model_dump(mode="json")
    for field in _LATER_CHOICES:
        if parameters[field] == _AS_BEFORE.get(field, usual[field]):
            del parameters[field]
    plugins = {"plugins": configuration.plugins} if configuration.plugins else {}
    return {"channels": channels, **parameters, **plugins}


def _sampled(path: Path, n_files: int) -> bytes:
    """Digest of the samples of one of `n_files` files."""
    end = max(_LEAST_SAMPLE, _MIB // n_files)
    n_blocks = max(3, _N_BLOCKS // n_files)
    block = max(_LEAST_SAMPLE, _N_BLOCKS * _BLOCK // (n_blocks * n_files))
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            digest = hashlib.sha256(size.to_bytes(8, "little"))
            parts = [(0, end), (max(0, size - end), end)]
            parts += [(i * max(0, size - block) // (n_blocks - 1), block) for i in range(n_blocks)]
            for offset, length in parts:
                digest.update(_read(descriptor, offset, min(length, size - offset)))
    except FileNotFoundError as error:
        raise RecordingNotFoundError(f"{path}: there is no such file") from error
    except (OSError, EOFError) as error:
        raise RecordingError(f"{path} cannot be read: {error}") from error
    return digest.digest()


def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise EOFError("the file became shorter while it was read")
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
