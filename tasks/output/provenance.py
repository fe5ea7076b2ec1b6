"""Where a result comes from: the recording, the parameters, and the fingerprint of both."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from tasks.acquisition import base_name, recording_files, recording_name
from tasks.configuration import Configuration
from tasks.output.fingerprint import (
    Fingerprint,
    canonical_parameters,
    input_fingerprint,
    parameter_fingerprint,
)
from tasks.output.os_errors import readable_size


@dataclass(frozen=True)
class InputFile:
    """The recording, as far as a result remembers it."""

    name: str
    """File name with its ending, without the folder; of a TIFF series, the pattern."""
    size_bytes: int
    sizes: Mapping[str, int]
    """Length of each axis, by its letter."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels, by number."""

    @property
    def base_name(self) -> str:
        """Name without its ending and placeholders; output files begin with it."""
        return base_name(PurePath(self.name))


@dataclass(frozen=True)
class Provenance:
    """What all FOVs of a run have in common; small, and fit to be sent to other processes."""

    fingerprint: Fingerprint
    input: InputFile
    parameters: Mapping[str, Any]
    """Channels and science parameters, see `canonical_parameters`."""

    @classmethod
    def of(
        cls,
        recording: Path,
        sizes: Mapping[str, int],
        configuration: Configuration,
        channel_names: Sequence[str] = (),
    ) -> Self:
        """Take the fingerprints of a recording and of a configuration.

        Parameters
        ----------
        recording
            Path or pattern of the recording; some 6 MiB of it are read, or 20 KiB of each file where it has many.
        sizes
            Length of each axis, as in `RecordingMetadata.sizes`.
        configuration
            Channels and science parameters.
        channel_names
            Names of the recording's channels, for those who look at the results.

        Raises
        ------
        RecordingError
            Where a file cannot be read.
        """
        return cls(
            fingerprint=Fingerprint(input_fingerprint(recording), parameter_fingerprint(configuration)),
            input=InputFile(recording_name(recording), _size_bytes(recording), dict(sizes), tuple(channel_names)),
            parameters=canonical_parameters(configuration),
        )

    def difference_from(self, present: "Provenance") -> str:
        """What distinguishes this from what is present in a folder, in words; empty where nothing does."""
        ours, theirs = self.fingerprint, present.fingerprint
        differences = []
        if ours.input != theirs.input:
            differences.append(f"another input: {_named(present.input)} there, {_named(self.input)} was asked for")
        if ours.science_version != theirs.science_version:
            differences.append(
                f"another version of the computation: {theirs.science_version} there, now {ours.science_version}"
            )
        elif ours.parameters != theirs.parameters:
            changes = list(_changes(_flat(present.parameters), _flat(self.parameters)))
            what = "; ".join(changes) or "another version of the output format"
            differences.append(f"other parameters: {what}")
        return "; ".join(differences)


def _size_bytes(recording: Path) -> int:
    return sum(file.stat().st_size for file in recording_files(recording))


def _named(file: InputFile) -> str:
    return f"{file.name} ({readable_size(file.size_bytes)})"


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, "not set"), new.get(name, "not set")
        if before != after:
            yield f"{name} is {before} there, {after} was asked for"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values by their dotted names, each as JSON."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value)
    return flat
