"""The one place that names the files of a fit. Light, like `tasks.fitting.catalog`."""

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InvalidParametersError
from tasks.fitting.request import FittingRequest
from tasks.output.layout import has_room, parse_temporary

PLOT_KINDS = ("curves", "histograms", "pairs")
PLOT_ENDINGS = ("png", "svg")

_BASE_NAME = r".+_fitted_\w+"
_RESULT = re.compile(rf"{_BASE_NAME}(\.(csv|parquet|json|{'|'.join(PLOT_ENDINGS)}))?")
_WORK_FOLDER = re.compile(rf"\.{_BASE_NAME}\.parts")


@dataclass(frozen=True)
class FitFiles:
    """Names of what a fit of a trace file with a model leaves."""

    folder: Path
    base_name: str
    """E.g. `control_intensity_total_ch_1_fitted_maturation`."""

    @classmethod
    def of(cls, request: FittingRequest) -> "FitFiles":
        """Where the results of a request go.

        Raises
        ------
        InvalidParametersError
            Where the name of the trace file is too long for those of the results.
        """
        traces = Path(request.csv_path)
        folder = Path(request.output_dir) if request.output_dir is not None else traces.parent
        files = cls(folder, f"{traces.stem}_fitted_{request.model_type}")
        for path in (files.summary, *files.plots()):
            if not has_room(path.name):
                raise InvalidParametersError(
                    f"csv_path: the name of {traces} is too long: results are named after it, e.g. {path.name}; "
                    "give it a shorter one"
                )
        return files

    @property
    def table(self) -> Path:
        """A row for each cell."""
        return self.folder / f"{self.base_name}.csv"

    @property
    def parquet(self) -> Path:
        """The same as Parquet."""
        return self.folder / f"{self.base_name}.parquet"

    @property
    def summary(self) -> Path:
        """Totals and distributions, as JSON."""
        return self.folder / f"{self.base_name}_summary.json"

    def plots(self) -> list[Path]:
        """All pictures that there can be."""
        return [self.plot(kind, ending) for kind in PLOT_KINDS for ending in PLOT_ENDINGS]

    def plot(self, kind: str, ending: str) -> Path:
        """A picture, e.g. of the kind `curves` and with the ending `png`."""
        return self.folder / f"{self.base_name}_{kind}.{ending}"

    @property
    def work_folder(self) -> Path:
        """Hidden folder of what is done of a fit that is not finished."""
        return self.folder / f".{self.base_name}.parts"


def is_unfinished(name: str) -> bool:
    """Whether a name is that of a result while it is written, or of a work folder while it is removed."""
    target = parse_temporary(name)
    return target is not None and _RESULT.fullmatch(target) is not None


def is_work_folder(name: str) -> bool:
    """Whether a name is that of a folder in which fits keep what is done."""
    return _WORK_FOLDER.fullmatch(name) is not None
