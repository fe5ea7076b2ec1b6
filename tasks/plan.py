"""A request held against the recording: whether it can be met, and what exactly is to be done."""

from dataclasses import dataclass
from pathlib import Path

from tasks.acquisition import RecordingMetadata, open_recording
from tasks.configuration import WorkflowRequest, check_channels
from tasks.errors import InvalidParametersError
from tasks.output import FovLayout, Provenance, finished_manifest
from tasks.output.layout import has_room


@dataclass(frozen=True)
class Plan:
    """A run whose request fits the recording."""

    request: WorkflowRequest
    metadata: RecordingMetadata
    provenance: Provenance
    fovs: tuple[int, ...]

    @property
    def output_dir(self) -> Path:
        """Where the results go."""
        return Path(self.request.output_dir)

    def finished(self) -> tuple[int, ...]:
        """FOVs that the output folder holds already."""
        fingerprint = self.provenance.fingerprint
        return tuple(fov for fov in self.fovs if finished_manifest(self.output_dir, fov, fingerprint))


def make_plan(request: WorkflowRequest) -> Plan:
    """Open the recording and check what the request asks of it; nothing is created or changed.

    Raises
    ------
    RecordingError
        Where the recording cannot be read.
    InvalidParametersError
        Where it lacks a channel, a FOV or a plane that is asked for, or a scale that a method needs, or where its
        name is too long for those of its results.
    """
    path = Path(request.microscopy_path)
    with open_recording(path, request.parameters.z_plane) as recording:
        metadata = recording.metadata
    check_channels(request.channels, list(metadata.channel_names))
    request.parameters.check_scale(metadata.pixel_size_um)
    fovs = tuple(request.parameters.select_fovs(metadata.n_fovs))
    longest = FovLayout(metadata.base_name, fovs[-1]).inspection_history
    if not has_room(longest):
        raise InvalidParametersError(
            f"microscopy_path: the name of {path} is too long: results are named after it, e.g. {longest}; "
            "give it a shorter one"
        )
    return Plan(
        request=request,
        metadata=metadata,
        fovs=fovs,
        provenance=Provenance.of(path, metadata.sizes, request.configuration(), metadata.channel_names),
    )
