"""Samples: which FOVs of a recording belong together, as `samples.yaml` tells it.

samples:
  - {name: control, fovs: "0-4, 7"}
  - {name: drug, fovs: [5, 6]}
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from tasks.configuration import FovList, Model
from tasks.errors import InvalidParametersError
from tasks.fov_range import MOST_FOVS
from tasks.output.atomic import write_text_atomically
from tasks.problems import describe
from tasks.yaml_files import LARGEST_FILE, TextLoader, read_yaml

_NAME = re.compile(r"[^\W_][\w .+()=%-]*")
_LONGEST_NAME = 100
_RANGE = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})")


def _file_name_part(name: str) -> str:
    """Files are named after samples, so that a name must not lead anywhere else."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise ValueError(
            "a sample name begins with a letter or digit and holds letters, digits, spaces and _ - . + ( ) = % only"
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"a sample name has at most {_LONGEST_NAME} bytes")
    return name


SampleName = Annotated[str, AfterValidator(_file_name_part)]
"""Name of a sample, and the beginning of the names of its files."""


class Sample(Model):
    """FOVs that were treated alike."""

    name: SampleName
    fovs: FovList

    @property
    def fov_text(self) -> str:
        """Tell its FOVs as a person would, e.g. `0-4, 7`."""
        return format_fovs(self.fovs)


class Samples(Model):
    """All samples of a recording."""

    samples: list[Sample] = Field(min_length=1, max_length=1000)

    @model_validator(mode="before")
    @classmethod
    def _not_too_many_fovs(cls, content: object) -> object:
        """Count before anything is built: a short text can name billions."""
        _refuse_many(_count_fovs(content))
        return content

    @model_validator(mode="after")
    def _not_too_many_fovs_in_lists(self) -> Self:
        _refuse_many(sum(len(sample.fovs) for sample in self.samples))
        return self

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        if repeated := _repeated([sample.name for sample in self.samples]):
            raise ValueError(_told_repeated(repeated[0]))
        return self


def read_samples(path: Path) -> Samples:
    """Read a samples file.

    Raises
    ------
    OSError
        As the operating system refuses it.
    InvalidParametersError
        Where it is not a samples file; names the field, or the line.
    """
    content = _read_content(path)
    try:
        return Samples.model_validate(content)
    except ValidationError as error:
        raise InvalidParametersError(f"{path.name} is no samples file: {describe(error)}") from error


def examine_samples(path: Path) -> tuple[list[Sample], list[str]]:
    """Read a samples file that may be wrong in several places.

    Returns
    -------
    tuple
        The samples that are in order, and all that is wrong with the others, where anything is.

    Raises
    ------
    OSError
        As the operating system refuses it.
    InvalidParametersError
        Where the file cannot be read as YAML at all.
    """
    content = _read_content(path)
    try:
        return Samples.model_validate(content).samples, []
    except ValidationError as error:
        problems = [describe(error)]
    samples = [sample for sample in _listed(content) if isinstance(sample, dict)]
    # With a wrong sample among them, the names were not compared.
    repeated = map(_told_repeated, _repeated([str(sample.get("name")) for sample in samples]))
    problems += [told for told in repeated if told not in problems[0]]
    in_order = []
    if _count_fovs(content) <= MOST_FOVS:
        for sample in samples:
            with suppress(ValidationError):
                in_order.append(Sample.model_validate(sample))
    return in_order, problems


def write_samples(path: Path, samples: Samples) -> None:
    """Write a samples file, whole or not at all.

    Raises
    ------
    InvalidParametersError
        Where it would be larger than one that is read.
    OutputError
        Where it cannot be written.
    """
    content = {"samples": [{"name": sample.name, "fovs": sample.fov_text} for sample in samples.samples]}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
    if (n_bytes := len(text.encode())) > LARGEST_FILE:
        raise InvalidParametersError(
            f"samples: the file would have {n_bytes} bytes; at most {LARGEST_FILE} are read. Name fewer FOVs, or such "
            "that follow each other"
        )
    write_text_atomically(path, text)


def format_fovs(fovs: list[int]) -> str:
    """Tell sorted FOV numbers as ranges: `[0, 1, 2, 3, 4, 7]` is `0-4, 7`."""
    ranges: list[list[int]] = []
    for fov in fovs:
        if ranges and fov == ranges[-1][1] + 1:
            ranges[-1][1] = fov
        else:
            ranges.append([fov, fov])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def fovs_in_words(fovs: list[int]) -> str:
    """Name FOVs in a sentence: `FOV 3`, or `FOVs 0-4, 7`."""
    return f"FOV{'s' * (len(fovs) > 1)} {format_fovs(fovs)}"


def _read_content(path: Path) -> object:
    return _as_text(read_yaml(path, "samples file", TextLoader))


def _listed(content: object) -> list[Any]:
    """Whatever stands in the list of samples."""
    samples = content.get("samples") if isinstance(content, dict) else None
    return samples if isinstance(samples, list) else []


def _count_fovs(content: object) -> int:
    given = (sample.get("fovs") for sample in _listed(content) if isinstance(sample, dict))
    return sum(int(last) - int(first) + 1 for text in map(str, given) for first, last in _RANGE.findall(text))


def _refuse_many(n_fovs: int) -> None:
    if n_fovs > MOST_FOVS:
        raise ValueError(f"all samples together name {n_fovs} FOVs; at most {MOST_FOVS} are allowed")


def _repeated(names: list[str]) -> list[str]:
    """Names that are there before; some file systems take names that differ in capitals for the same."""
    folded = [name.casefold() for name in names]
    return [name for index, name in enumerate(names) if name.casefold() in folded[:index]]


def _told_repeated(name: str) -> str:
    return f"sample {name!r} is there twice; each sample needs a name of its own"


def _as_text(content: object) -> object:
    """Turn the FOV lists in a file's content into text, where numbers and ranges can stand side by side."""
    for sample in _listed(content):
        fovs = sample.get("fovs") if isinstance(sample, dict) else None
        if isinstance(fovs, list) and all(isinstance(item, str) for item in fovs):
            sample["fovs"] = ", ".join(fovs)
    return content
