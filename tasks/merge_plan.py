"""What a merge is asked to do, held against the samples file and the tables that are there; all mistakes at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from tasks.comparable import MadeAlike
from tasks.configuration import AbsolutePath, RequestModel
from tasks.errors import InvalidParametersError
from tasks.features import feature_columns
from tasks.output import MANIFEST_FILE, Fingerprint, FovLayout, check_free, read_manifest
from tasks.output.layout import INSPECTED_ENDING, fov_directory, has_room
from tasks.output.os_errors import told
from tasks.samples import Sample, examine_samples, fovs_in_words
from tasks.traces import IDENTITY_COLUMNS, read_columns

_TABLE_ENDING = "traces.csv"
_MOST_PROBLEMS = 20

PathCheck = Callable[[Path], object]
"""Is called with every path before it is read, and raises where it must not be."""


class MergeRequest(RequestModel):
    """The documented request to merge samples."""

    sample_yaml: AbsolutePath = Field(description="Samples file: which FOVs belong to which sample")
    input_dir: AbsolutePath = Field(description="Output folder of a processing job")
    output_dir: AbsolutePath = Field(description="Folder of the merged files; created where it is not there")
    parquet: bool = Field(False, description="Write every table as Parquet too")


@dataclass(frozen=True)
class SamplePlan:
    """A sample, and the tables that it is merged from, by FOV."""

    name: str
    tables: dict[int, Path]

    @property
    def merged(self) -> str:
        """Name of the file with all columns, without its ending."""
        return f"{self.name}_merged"

    def tidy(self, column: str) -> str:
        """Name of the file of one feature in one channel, without its ending."""
        return f"{self.name}_{column}"

    def stems(self, features: tuple[str, ...]) -> list[str]:
        """Names of all its files, without their endings."""
        return [self.merged, *map(self.tidy, features)]


@dataclass(frozen=True)
class MergePlan:
    """A merge that can be done."""

    output_dir: Path
    columns: tuple[str, ...]
    """Columns of all tables."""
    samples: tuple[SamplePlan, ...]
    parquet: bool
    fingerprint: Fingerprint | None
    """What the tables were made from and with; None where no FOV tells."""

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that get tidy files of their own, e.g. `area_ch_0`."""
        return tuple(feature_columns(self.columns))

    @property
    def files(self) -> list[str]:
        """Names of all files that will be there, sample by sample."""
        endings = (".csv", ".parquet") if self.parquet else (".csv",)
        return [stem + ending for sample in self.samples for stem in sample.stems(self.features) for ending in endings]

    @property
    def n_fovs(self) -> int:
        """FOVs of all samples."""
        return sum(len(sample.tables) for sample in self.samples)


def make_merge_plan(request: MergeRequest, check_path: PathCheck = lambda _: None) -> MergePlan:
    """Read the samples file, find the tables and look at their headers; nothing is created or changed.

    Parameters
    ----------
    check_path
        Told of every path before it is read.

    Raises
    ------
    InvalidParametersError
        Listing all that is wrong: with the samples, with their FOVs, and with the tables.
    OutputBusyError
        Where another run holds the output folder.
    OutputError
        Where the output folder cannot be written, or the system does not let a table be read.
    """
    output_dir, input_dir = Path(request.output_dir), Path(request.input_dir)
    check_free(output_dir)
    samples, problems = _read_samples(Path(request.sample_yaml))
    problems += _shared_fovs(samples)
    examined = _Tables(check_path)
    plans = []
    if input_dir.is_dir():
        plans = [SamplePlan(sample.name, examined.find(input_dir, sample)) for sample in samples]
        problems += examined.problems()
    else:
        problems.append(f"input_dir: {input_dir} is no folder; name the output folder of a processing job")
    features = tuple(feature_columns(examined.columns))
    problems += _clashing_files(plans, features) + _long_files(plans, features)
    if problems:
        raise InvalidParametersError(_listed(problems))
    return MergePlan(output_dir, examined.columns, tuple(plans), request.parquet, examined.made.fingerprint)


def _read_samples(path: Path) -> tuple[list[Sample], list[str]]:
    try:
        samples, problems = examine_samples(path)
    except OSError as error:
        return [], [f"sample_yaml: {path} cannot be read: {error.strerror}"]
    except InvalidParametersError as error:
        return [], [str(error)]
    return samples, [f"{path.name}: {problem}" for problem in problems]


def _shared_fovs(samples: list[Sample]) -> list[str]:
    """Pairs of samples that claim the same FOVs."""
    problems = []
    owner: dict[int, str] = {}
    for sample in samples:
        shared: dict[str, list[int]] = {}
        for fov in sample.fovs:
            if fov in owner:
                shared.setdefault(owner[fov], []).append(fov)
            else:
                owner[fov] = sample.name
        problems += [
            f"samples {other!r} and {sample.name!r} overlap: {fovs_in_words(fovs)} in both; a FOV belongs to one sample"
            for other, fovs in shared.items()
        ]
    return problems


def _clashing_files(samples: list[SamplePlan], features: tuple[str, ...]) -> list[str]:
    """Pairs of samples whose files would have the same name."""
    problems = []
    owner: dict[str, str] = {}
    for sample in samples:
        for name in sample.stems(features):
            other = owner.setdefault(name.casefold(), sample.name)
            if other != sample.name:
                problems.append(f"samples {other!r} and {sample.name!r} would both write {name}.csv; rename one")
    return problems


def _long_files(samples: list[SamplePlan], features: tuple[str, ...]) -> list[str]:
    """Files whose names would be too long."""
    return [
        f"sample {sample.name!r}: the name of its file {name}.csv is too long; rename the sample, or the column"
        for sample in samples
        for name in sample.stems(features)
        if not has_room(f"{name}.parquet")
    ]


class _Tables:
    """Finds the tables of FOVs, and notes what is wrong with them."""

    def __init__(self, check_path: PathCheck) -> None:
        self.columns: tuple[str, ...] = ()
        self._check_path = check_path
        self._reference: Path | None = None
        self.made = MadeAlike()
        self._problems: list[str] = []

    def find(self, input_dir: Path, sample: Sample) -> dict[int, Path]:
        """Tables of a sample, by FOV."""
        tables: dict[int, Path] = {}
        missing = []
        for fov in sample.fovs:
            directory = input_dir / fov_directory(fov)
            with told("read", directory):
                self._check_path(directory)
                table = self._find_table(directory, fov) if directory.is_dir() else None
            if table is None:
                missing.append(fov)
            elif self._check_columns(table):
                tables[fov] = table
        if missing:
            self._problems.append(
                f"sample {sample.name!r}: there is no traces table of {fovs_in_words(missing)} in {input_dir}; "
                "process what is missing, or correct the sample"
            )
        return tables

    def problems(self) -> list[str]:
        """All that is wrong."""
        foreign = self.made.problem()
        return self._problems if foreign is None else [*self._problems, foreign]

    def _find_table(self, directory: Path, fov: int) -> Path | None:
        """The table as a person has corrected it, or as it was computed; None where there is neither."""
        endings = [f"_{directory.name}_{ending}" for ending in (_TABLE_ENDING, f"traces{INSPECTED_ENDING}")]
        names = sorted(path.name for path in directory.iterdir())
        found = {name[: -len(ending)] for ending in endings for name in names if name.endswith(ending)}
        if len(found) > 1:
            self._problems.append(
                f"{directory} holds tables of several recordings ({', '.join(sorted(found))}); leave one"
            )
        if not found:
            return None
        layout = FovLayout(min(found), fov)
        inspected = layout.inspected in names
        self._check_manifest(directory, layout, inspected=inspected)
        return directory / (layout.inspected if inspected else layout.traces)

    def _check_manifest(self, directory: Path, layout: FovLayout, *, inspected: bool) -> None:
        """Hold a FOV against its manifest; those of other programs have none."""
        self._check_path(directory / MANIFEST_FILE)
        manifest = read_manifest(directory)
        if manifest is None:
            return
        self.made.add(manifest)
        record = manifest.files.get(layout.traces)
        path = directory / layout.traces
        if record is not None and not inspected and (size := path.stat().st_size) != record.bytes:
            self._problems.append(
                f"{path} is damaged: it has {size} bytes instead of {record.bytes}; process FOV {layout.fov} again"
            )

    def _check_columns(self, table: Path) -> bool:
        """Make sure that a table has the columns of all others."""
        columns = self._read_columns(table)
        if columns is None:
            return False
        if self._reference is None:
            self._reference, self.columns = table, columns
        if columns != self.columns:
            self._problems.append(
                f"{table} has other columns than {self._reference.name}: "
                f"{_difference(columns, self.columns) or 'another order'}"
            )
        return True

    def _read_columns(self, table: Path) -> tuple[str, ...] | None:
        with told("read", table):
            self._check_path(table)
            columns = read_columns(table)
        missing = [name for name in IDENTITY_COLUMNS if name not in columns]
        if missing:
            self._problems.append(
                f"{table} is no traces table: expected the columns {', '.join(IDENTITY_COLUMNS)} and features, "
                f"separated by commas; {', '.join(missing)} not found"
            )
            return None
        if len(set(columns)) < len(columns):
            self._problems.append(f"{table} is no traces table: a column is there more than once")
            return None
        return columns


def _difference(columns: tuple[str, ...], reference: tuple[str, ...]) -> str:
    missing = [name for name in reference if name not in columns]
    more = [name for name in columns if name not in reference]
    parts = [f"{what}: {', '.join(names)}" for what, names in (("not there", missing), ("too many", more)) if names]
    return "; ".join(parts)


def _listed(problems: list[str]) -> str:
    more = len(problems) - _MOST_PROBLEMS
    return "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more problems" if more > 0 else "")
