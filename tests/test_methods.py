"""The registry of methods: what requests may say, what fingerprints hold, and methods from elsewhere."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as arrow_parquet
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.cellpose_adapter import weights
from tasks.configuration import Channels, Configuration, Parameters, PhaseChannel, ScienceParameters, WorkflowRequest
from tasks.errors import InvalidParametersError, ProcessingError
from tasks.finding import find_cells
from tasks.linking import checked_cells, make_linker
from tasks.merge import merge
from tasks.merge_plan import make_merge_plan
from tasks.methods import SEGMENTATION_METHODS, TRACKING_METHODS, Method, MethodParameters, TextureParameters
from tasks.output.fingerprint import canonical_parameters, parameter_fingerprint
from tasks.plan import make_plan
from tasks.regions import find_regions, labelled_regions
from tasks.registry import Plugin
from tasks.trace_files import read_traces
from tests.oracles import regions as oracle
from tests.recordings import random_images, write_recording
from tests.tables import COLUMNS, merge_request, write_table

REQUEST = {"microscopy_path": "/data/film.nd2", "output_dir": "/data/out", "channels": {"phase": {"channel": 0}}}


def configuration(**parameters: Any) -> Configuration:
    return Configuration(
        channels=Channels(phase=PhaseChannel(channel=0)), parameters=ScienceParameters.model_validate(parameters)
    )


@pytest.mark.parametrize("methods", [SEGMENTATION_METHODS, TRACKING_METHODS], ids=["segmentation", "tracking"])
def test_a_method_is_known_by_its_name_and_has_defaults(methods: dict[str, Method[MethodParameters]]) -> None:
    for name, method in methods.items():
        assert method.name == name == method.parameters.model_validate({"method": name}).method
        assert method.description
        assert callable(method.load())
        for field, about in method.parameters.model_fields.items():
            assert field == "method" or about.description


def test_name_alone_asks_for_the_defaults() -> None:
    short, long = configuration(segmentation="texture"), configuration(segmentation={"method": "texture"})
    assert short == long
    assert short.parameters.segmentation == TextureParameters()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"segmentation": "magic"}, r"parameters\.segmentation: name a method: logstd, texture.*got 'magic'"),
        ({"tracking": {"max_gap": 3}}, r"parameters\.tracking: name a method: iou, overlap"),
        ({"tracking": 3}, r"parameters\.tracking: name a method"),
        ({"segmentation": {"method": "texture", "split": 1.5}}, r"parameters\.segmentation: split.*got 1\.5"),
        ({"segmentation": {"method": "texture", "reach": 1}}, r"parameters\.segmentation: reach: unknown field"),
        ({"tracking": {"method": "overlap", "max_gap": "2"}}, r"parameters\.tracking: max_gap"),
    ],
)
def test_a_wrong_choice_is_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParametersError, match=message):
        WorkflowRequest.parse(**REQUEST, parameters=parameters)


def test_a_number_that_could_not_be_kept_is_refused_also_where_a_method_sets_no_limit() -> None:
    class Unlimited(MethodParameters):
        method: Literal["unlimited"] = "unlimited"
        n: int | None = None

    assert Unlimited(n=-5).n == -5
    for number in (2**31, -(10**20)):
        with pytest.raises(ValidationError, match="n\n  Value error, allowed are at most 2147483647"):
            Unlimited(n=number)


def test_schema_lists_methods_with_their_parameters() -> None:
    fields = Parameters.model_json_schema()["properties"]
    for field, methods in (("segmentation", SEGMENTATION_METHODS), ("tracking", TRACKING_METHODS)):
        names, *models = fields[field]["anyOf"]
        assert names == {"type": "string", "enum": list(methods)}
        assert [model["properties"]["method"]["const"] for model in models] == list(methods)
        assert all(model["description"] for model in models)
    json.dumps(fields)


def test_fingerprint_holds_what_changes_bytes_and_defaults_are_as_they_were() -> None:
    default = configuration()
    assert not {"segmentation", "tracking"} & canonical_parameters(default).keys()
    assert parameter_fingerprint(configuration(segmentation="logstd", tracking="iou")) == parameter_fingerprint(default)
    others: list[dict[str, Any]] = [
        {},
        {"segmentation": "texture"},
        {"segmentation": {"method": "texture", "split": 0.5}},
        {"tracking": "overlap"},
        {"tracking": {"method": "overlap", "max_gap": 1}},
    ]
    assert len({parameter_fingerprint(configuration(**one)) for one in others}) == len(others)
    assert canonical_parameters(configuration(tracking="overlap"))["tracking"]["max_gap"] == 3


def test_a_recording_without_a_pixel_size_needs_it_as_a_parameter(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images(), pixel_size_um=None)

    def plan(segmentation: object) -> None:
        request = {**REQUEST, "microscopy_path": str(path), "output_dir": str(tmp_path / "out")}
        make_plan(WorkflowRequest.parse(**request, parameters={"segmentation": segmentation}))

    with pytest.raises(InvalidParametersError, match=r"parameters\.segmentation\.pixel_size_um.*texture"):
        plan("texture")
    plan({"method": "texture", "pixel_size_um": 0.65})
    plan("logstd")


class HalfParameters(MethodParameters):
    """Of a method from elsewhere."""

    method: Literal["half"] = "half"
    columns: int = 5


@pytest.fixture
def registered() -> Iterator[list[Any]]:
    """A method from elsewhere, which gives whatever the list holds."""
    answers: list[Any] = []

    def segment(image: NDArray[Any], parameters: HalfParameters, pixel_size_um: float | None) -> Any:
        labels = np.zeros(image.shape, np.int64)
        labels[:, : parameters.columns], labels[:, -2:] = 70_000, 3
        return answers[0] if answers else labels

    method = Method("half", "Two stripes", HalfParameters, segment)
    SEGMENTATION_METHODS.add(method, Plugin("stripes", "1.0", "stripes.py"))
    yield answers
    del SEGMENTATION_METHODS._entries["half"], SEGMENTATION_METHODS._plugins["half"]


def test_a_registered_function_is_a_method(registered: list[Any]) -> None:
    parameters = ScienceParameters.model_validate({"segmentation": {"method": "half", "columns": 3}})
    mask, labelled = find_cells(np.zeros((4, 20)), parameters, with_perimeter=False)
    assert labelled.regions.area.tolist() == [12, 8]
    assert mask.to_array().sum() == 20


@pytest.mark.parametrize("answer", [None, np.zeros((3, 3), int), np.zeros((4, 20)), np.full((4, 20), -1)])
def test_an_answer_that_is_no_label_image_is_refused(registered: list[Any], answer: object) -> None:
    registered.append(answer)
    with pytest.raises(ProcessingError, match="'half'"):
        find_cells(np.zeros((4, 20)), ScienceParameters.model_validate({"segmentation": "half"}), with_perimeter=False)


def test_labelled_regions_are_those_of_the_mask_and_touching_ones_stay_apart() -> None:
    rng = np.random.default_rng(3)
    labels = oracle.label(rng.random((40, 50)) < 0.4)
    shuffled = np.concatenate([[0], 10 + rng.permutation(labels.max())])[labels]
    ours = labelled_regions(shuffled, min_area=3, max_area=40)
    np.testing.assert_array_equal(ours.paint_labels(), oracle.label(labels > 0, 3, 40))
    halves = np.repeat([[2, 1]], [4, 4], axis=1).repeat(3, axis=0)
    assert labelled_regions(halves).regions.boxes.tolist() == [[0, 0, 3, 2], [4, 0, 7, 2]]
    assert len(labelled_regions(np.zeros((3, 3), int))) == 0
    assert len(find_regions(find_cells(np.zeros((5, 5)), ScienceParameters(), with_perimeter=False)[0])) == 0


def test_cellpose_never_downloads_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    with pytest.raises(ProcessingError, match=r"'cpsam_v2' is not on this machine.*segmentation\.model"):
        weights("cpsam_v2")
    (tmp_path / "mine").touch()
    assert weights("mine") == weights(str(tmp_path / "mine")) == tmp_path / "mine"


@pytest.mark.parametrize("extra", ["btrack", "cellpose"])
def test_an_extra_that_is_not_installed_is_told_of(tmp_path: Path, extra: str) -> None:
    program = {
        "btrack": "from tasks.linking import make_linker; make_linker(p('tracking'))",
        "cellpose": "from tasks.finding import find_cells; import numpy as np;"
        "find_cells(np.zeros((9, 9)), p('segmentation'), with_perimeter=False)",
    }[extra]
    (tmp_path / "cpsam_v2").touch()
    start = (
        f"import sys; sys.modules[{extra!r}] = None\n"
        "from tasks.configuration import ScienceParameters\n"
        f"p = lambda field: ScienceParameters.model_validate({{field: {extra!r}}})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", start + program],
        capture_output=True,
        text=True,
        env={"CELLPOSE_LOCAL_MODELS_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert ended.returncode == 1
    assert (
        f"ProcessingError: the {'tracking' if extra == 'btrack' else 'segmentation'} method '{extra}'" in ended.stderr
    )
    assert f"pip install 'pyama-backend[{extra}]'" in ended.stderr


def test_tables_with_mothers_are_merged_and_read(tmp_path: Path) -> None:
    columns = (*COLUMNS[:5], "parent", *COLUMNS[5:])
    values = "1.000000,2.000000,0.000000,0.000000,3.000000,3.000000,7.000000,8.000000"
    rows = [
        f"0,{cell},{frame},{frame}.000000,True,{parent},{values}"
        for cell, parent in ((1, 0), (2, 1))
        for frame in (0, 1)
    ]
    write_table(tmp_path / "results", 0, "\n".join([",".join(columns), *rows]) + "\n")
    plan = make_merge_plan(merge_request(tmp_path, [{"name": "s", "fovs": [0]}], parquet=True))
    plan.output_dir.mkdir(exist_ok=True)
    (sample,) = merge(plan)
    assert sample.n_rows == 4
    merged = plan.output_dir / "s_merged.csv"
    assert merged.read_text().splitlines()[0] == ",".join(columns)
    assert "parent" not in "".join(path.name for path in plan.output_dir.iterdir())
    assert read_traces(merged).n_cells == 2
    table = arrow_parquet.read_table(plan.output_dir / "s_merged.parquet")
    assert str(table.schema.field("parent").type) == "int32"
    assert table.column("parent").to_pylist() == [0, 0, 1, 1]


def test_default_linker_needs_no_extra() -> None:
    assert make_linker(ScienceParameters()).parents == {}


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (None, "gave NoneType"),
        (np.array([1, 2, 3]), r"gave int64 \(3,\); expected 2 whole numbers"),
        (np.array([1.0, 2.0]), "gave float64"),
        (np.array([0, 1]), "a number below 1"),
        (np.array([4, 4]), "one of them twice"),
        (np.array([1, 70_000]), "more than 65535 cells"),
    ],
)
def test_numbers_of_a_tracking_method_that_cannot_be_are_refused(cells: object, told: str) -> None:
    with pytest.raises(ProcessingError, match=told):
        checked_cells(cells, 2)


@pytest.mark.parametrize("dtype", [np.int32, np.uint64, np.int8])
def test_numbers_of_a_tracking_method_are_kept_as_a_copy(dtype: type[np.integer[Any]]) -> None:
    given = np.array([7, 3], dtype)
    kept = checked_cells(given, 2)
    given[:] = 0
    assert kept.dtype == np.int32
    assert kept.tolist() == [7, 3]
