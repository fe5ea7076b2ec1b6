"""The unit of work of a run: one FOV, from the recording to its directory in the output folder."""

import errno
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from tasks.acquisition import open_recording
from tasks.configuration import Configuration
from tasks.errors import PyamaError
from tasks.fov import FrameListener, Helpers, process_fov
from tasks.output import FovDirectory, Provenance, finished_manifest
from tasks.plan import Plan

_TRANSIENT = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EINTR,
    errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS,
    errno.ENOMEM, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
"""Troubles of disks and networks that may be over in a moment."""


@dataclass(frozen=True)
class FovReport:
    """What became of a FOV."""

    fov: int
    n_cells: int
    seconds: float
    """Time it took here; next to nothing where it was finished before."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FovJob:
    """Everything that the FOVs of a run have in common; small, and fit to be sent to other processes."""

    recording: Path
    output_dir: Path
    configuration: Configuration
    provenance: Provenance
    overwrite: bool

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """What a plan asks of each FOV."""
        return cls(
            recording=plan.metadata.path,
            output_dir=plan.output_dir,
            configuration=plan.request.configuration(),
            provenance=plan.provenance,
            overwrite=plan.request.parameters.overwrite,
        )

    def run(self, fov: int, on_frame: FrameListener | None = None, helpers: Helpers | None = None) -> FovReport:
        """Compute a FOV, unless the output folder holds it already.

        Safe to repeat at any time: a FOV's directory is there whole or not at all.

        Raises
        ------
        RecordingError, ProcessingError, OutputError
            As `process_fov` and `FovDirectory` do.
        """
        start = monotonic()
        if (report := self.finished(fov)) is not None:
            return report
        with (
            open_recording(self.recording, self.configuration.parameters.z_plane) as recording,
            FovDirectory(self.output_dir, fov, self.provenance, replace=self.overwrite) as directory,
        ):
            summary = process_fov(recording, fov, self.configuration, directory, on_frame, helpers)
            directory.commit(n_cells=summary.n_cells, warnings=summary.warnings)
        return FovReport(fov, summary.n_cells, monotonic() - start, summary.warnings)

    def finished(self, fov: int) -> FovReport | None:
        """Report on a FOV that is done; None where it is not."""
        manifest = finished_manifest(self.output_dir, fov, self.provenance.fingerprint)
        return None if manifest is None else FovReport(fov, manifest.n_cells, 0.0, manifest.warnings)


def is_transient(error: BaseException) -> bool:
    """Whether the same attempt may succeed later: trouble of a disk or a network, but never wrong input.

    An error of our own is transient where such trouble caused it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _TRANSIENT:
            return True
        cause = cause.__cause__ if isinstance(cause, PyamaError) else None
    return False
