"""What is in a recording, and what its channels probably are."""

from pathlib import Path
from typing import Any, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.file_items import printable
from api.paths import allowed_path
from api.recent_files import remember
from api.responses import Answer, documented_errors
from api.security import READ_ONLY
from tasks.acquisition import RecordingMetadata, open_recording, suggest_channels
from tasks.configuration import Model

router = APIRouter(prefix="/processing", tags=["processing"])


class LoadMetadataRequest(Model):
    """Which recording to look at."""

    file_path: str = Field(
        description="Absolute path of the recording, or pattern of a TIFF series, e.g. "
        "/data/img_{fov}_{time}_{channel}.tif",
        examples=["/data/experiment.nd2"],
    )


class Metadata(BaseModel):
    """Shape, channels, scale and times of a recording."""

    file_path: str
    base_name: str = Field(description="File name without its ending; begins the names of all results")
    file_type: str
    height: int = Field(description="Pixels")
    width: int = Field(description="Pixels")
    n_frames: int
    n_fovs: int
    n_channels: int
    n_planes: int = Field(description="Planes of each Z stack; 1 where there is no stack")
    channel_names: list[str]
    timepoints: list[float] = Field(description="Time of each frame of FOV 0, in time_units from the recording's zero")
    time_units: str
    pixel_size_um: float | None = Field(description="Micrometres; null where the file does not tell")
    dtype: str
    warnings: list[str] = Field(description="What to know of these data, e.g. that times were not recorded")

    @classmethod
    def of(cls, metadata: RecordingMetadata) -> Self:
        """Tell the metadata of a recording as JSON does."""
        return cls(
            file_path=printable(str(metadata.path)),
            base_name=printable(metadata.base_name),
            file_type=metadata.file_type,
            height=metadata.height,
            width=metadata.width,
            n_frames=metadata.n_frames,
            n_fovs=metadata.n_fovs,
            n_channels=metadata.n_channels,
            n_planes=metadata.n_planes,
            channel_names=[printable(name) for name in metadata.channel_names],
            timepoints=metadata.times_min[0].tolist(),
            time_units="min",
            pixel_size_um=metadata.pixel_size_um,
            dtype=metadata.dtype.name,
            warnings=list(metadata.warnings),
        )


class LoadMetadataAnswer(Answer):
    """What is in the recording."""

    metadata: Metadata
    suggested_channels: dict[str, Any] = Field(
        description="Ready to be sent back as `channels`; where no channel looks like phase contrast, `phase` is null "
        "and `reason` tells why",
        examples=[
            {
                "phase": {"channel": 0, "features": ["area", "aspect_ratio"]},
                "fluorescence": [{"channel": 1, "features": ["intensity_total"]}],
            }
        ],
    )


@router.post("/load-metadata", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
def load_metadata(body: LoadMetadataRequest, request: Request) -> LoadMetadataAnswer:
    """Open a recording, tell its shape, channels and times, and suggest what to measure in which channel."""
    path = allowed_path(request, body.file_path, "file_path")
    metadata, suggestion = _look_into(path)
    remember(request.app.state.settings.home, path)
    return LoadMetadataAnswer(metadata=Metadata.of(metadata), suggested_channels=suggestion)


def _look_into(path: Path) -> tuple[RecordingMetadata, dict[str, Any]]:
    with open_recording(path) as recording:
        return recording.metadata, suggest_channels(recording.metadata).as_json()
