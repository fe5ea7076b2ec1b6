"""Samples files: which FOVs belong to which sample."""

from pathlib import Path
from typing import Annotated, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.errors import InvalidRequestError
from api.file_items import printable
from api.paths import allowed_path, existing_folder, existing_path, refused, shown
from api.responses import Answer, documented_errors
from api.security import READ_ONLY
from tasks.configuration import Model
from tasks.errors import InvalidParametersError
from tasks.samples import Sample, Samples, read_samples, write_samples

_ENDINGS = (".yaml", ".yml")

router = APIRouter(prefix="/processing/samples", tags=["processing"])


class SaveSamplesRequest(Samples):
    """What to write where."""

    file_path: str = Field(description="Absolute path of the YAML file", examples=["/data/samples.yaml"])
    samples: Annotated[list[Sample], Field(min_length=1, max_length=1000)] = Field(
        examples=[[{"name": "control", "fovs": "0-4, 7"}, {"name": "drug", "fovs": [5, 6]}]]
    )


class LoadSamplesRequest(Model):
    """Which file to read."""

    file_path: str = Field(description="Absolute path of the YAML file", examples=["/data/samples.yaml"])


class SampleItem(BaseModel):
    """FOVs that were treated alike."""

    name: str
    fovs: str = Field(description="Their numbers, as text", examples=["0-4, 7"])
    fov_numbers: list[int] = Field(description="Their numbers, one by one")

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """Tell a sample as JSON does."""
        return cls(name=sample.name, fovs=sample.fov_text, fov_numbers=sample.fovs)


class SamplesAnswer(Answer):
    """What is in the file."""

    file_path: str
    samples: list[SampleItem]
    message: str


@router.post("/save", responses=documented_errors("FILE_NOT_FOUND"))
def save_samples(body: SaveSamplesRequest, request: Request) -> SamplesAnswer:
    """Write a samples file, whole or not at all. It takes the place of another samples file, but of nothing else."""
    path = allowed_path(request, body.file_path, "file_path")
    if path.suffix.lower() not in _ENDINGS:
        raise InvalidRequestError(f"file_path: a samples file ends in {' or '.join(_ENDINGS)} (got {shown(str(path))})")
    existing_folder(request, str(path.parent), "file_path")
    samples = Samples(samples=body.samples)
    if path.exists():
        _check_replaceable(path, body.file_path)
    # Through a link, the file itself is written, not the link replaced.
    write_samples(path.resolve(), samples)
    return _answer(path, samples, "saved")


@router.post("/load", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
def load_samples(body: LoadSamplesRequest, request: Request) -> SamplesAnswer:
    """Read a samples file."""
    path = existing_path(request, body.file_path, "file_path")
    try:
        return _answer(path, read_samples(path), "loaded")
    except OSError as error:
        raise refused(error, body.file_path, "file_path") from error


def _check_replaceable(path: Path, raw: str) -> None:
    try:
        read_samples(path)
    except InvalidParametersError as error:
        raise InvalidRequestError(
            f"file_path: {shown(raw)} holds something else than samples and is not overwritten; choose another name"
        ) from error
    except OSError as error:
        raise refused(error, raw, "file_path") from error


def _answer(path: Path, samples: Samples, what: str) -> SamplesAnswer:
    items = [SampleItem.of(sample) for sample in samples.samples]
    message = f"{len(items)} sample{'s' * (len(items) != 1)} {what}"
    return SamplesAnswer(file_path=printable(str(path)), samples=items, message=message)
