"""Requests to fit: what is refused, with a message that names the field, the value, and the remedy."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InvalidParametersError, OutputError
from tasks.fitting.catalog import FITTING_MODELS, ROLE_LIMITS
from tasks.fitting.files import FitFiles
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FitSpecification, FittingRequest
from tests.nobody import printed_by
from tests.trace_tables import write_maturation

DOCUMENTED: dict[str, Any] = {
    "csv_path": "/path/to/traces.csv",
    "model_type": "maturation",
    "model_params": {"amplitude": 1.0, "rate": 0.1, "offset": 0.0},
    "model_bounds": {"amplitude": [0.0, 10.0], "rate": [0.01, 1.0], "offset": [-1.0, 5.0]},
}


def refusal(**changes: Any) -> str:
    with pytest.raises(InvalidParametersError) as caught:
        FittingRequest.parse(**(DOCUMENTED | changes))
    return str(caught.value)


def test_documented_request_is_understood() -> None:
    asked = FittingRequest.parse(**DOCUMENTED).specification()
    assert asked.values == DOCUMENTED["model_params"]
    assert asked.bounds == {name: tuple(pair) for name, pair in DOCUMENTED["model_bounds"].items()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "sigmoid"}, "model_type: there is no such model; available: trivial, maturation"),
        ({"model_params": {"Rate": 0.1}}, "model_params: maturation has no parameter 'Rate'; it has amplitude"),
        ({"model_bounds": {"ktl": [0, 1]}}, "model_bounds: maturation has no parameter 'ktl'"),
        ({"model_bounds": {"rate": [1.0, 0.1]}}, "model_bounds.rate: the lower bound must be below the upper one"),
        ({"model_bounds": {"rate": [0.5, 0.5]}}, "model_bounds.rate: the lower bound must be below the upper one"),
        ({"model_bounds": {"rate": [0.1]}}, "model_bounds.rate"),
        ({"model_bounds": {"rate": [-1.0, 1.0]}}, "a rate parameter can be 0 to 1e+06 (got -1, 1)"),
        ({"model_bounds": {"rate": [0.1, float("inf")]}}, "model_bounds.rate.1: Input should be a finite number"),
        ({"model_params": {"rate": float("nan")}}, "model_params.rate: Input should be a finite number"),
        ({"model_params": {"rate": "fast"}}, "model_params.rate"),
        ({"model_params": {"rate": 7.0}}, "model_params.rate: the start value 7 is outside the bounds 0.01 to 1"),
        (
            {"model_bounds": {"rate": [0.2, 0.5]}, "model_params": {"rate": 0.1}},
            "the start value 0.1 is outside the bounds 0.2 to 0.5; move it, or set model_bounds",
        ),
        ({"csv_path": "traces.csv"}, "csv_path: must be an absolute path"),
        ({"loss": "square"}, "loss"),
        ({"loss_scale": 0.0}, "loss_scale: must be above 0"),
        ({"colour": 1}, "colour: unknown field"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


def test_all_mistakes_are_told_at_once() -> None:
    text = refusal(model_params={"speed": 1.0, "rate": 9.0}, model_bounds={"offset": [3.0, 2.0]})
    assert "no parameter 'speed'" in text
    assert "model_params.rate" in text
    assert "model_bounds.offset" in text


def test_fixed_parameters_have_values_but_no_bounds() -> None:
    fields = {"csv_path": "/a.csv", "model_type": "translation_maturation"}
    asked = FittingRequest.parse(**fields, model_params={"km": 2.0}).specification()
    assert asked.values["km"] == 2.0
    assert "km" not in asked.bounds
    with pytest.raises(InvalidParametersError, match=r"model_bounds\.km: is fixed, so it has no bounds; set its value"):
        FittingRequest.parse(**fields, model_bounds={"km": [1.0, 2.0]})
    with pytest.raises(
        InvalidParametersError, match=r"model_params\.km: the value 99 is outside the bounds 1e-05 to 30"
    ):
        FittingRequest.parse(**fields, model_params={"km": 99.0})


def test_a_default_start_outside_of_the_bounds_is_moved() -> None:
    asked = FitSpecification.of(FITTING_MODELS["maturation"], bounds={"amplitude": [100.0, 1e6]})
    assert asked.values["amplitude"] == 100.0


@given(st.data(), st.sampled_from(sorted(FITTING_MODELS)))
def test_any_start_inside_any_bounds_is_accepted(data: st.DataObject, model_type: str) -> None:
    model = FITTING_MODELS[model_type]
    params, bounds = {}, {}
    for one in model.fitted:
        low, high = sorted(data.draw(st.tuples(*[st.floats(*ROLE_LIMITS[one.role])] * 2)))
        if low < high:
            bounds[one.name] = [low, high]
            params[one.name] = data.draw(st.floats(low, high))
    asked = FittingRequest.parse(csv_path="/a.csv", model_type=model_type, model_params=params, model_bounds=bounds)
    assert {name: asked.specification().values[name] for name in params} == params


def test_results_are_beside_the_traces_or_in_the_output_folder() -> None:
    beside = FitFiles.of(FittingRequest.parse(**DOCUMENTED))
    assert beside.table == Path("/path/to/traces_fitted_maturation.csv")
    elsewhere = FitFiles.of(FittingRequest.parse(**DOCUMENTED, output_dir="/out"))
    assert elsewhere.summary == Path("/out/traces_fitted_maturation_summary.json")


def test_a_plan_reads_the_traces_and_writes_nothing(tmp_path: Path) -> None:
    path = write_maturation(tmp_path / "a.csv", 3)
    request = FittingRequest.parse(csv_path=str(path), model_type="maturation", output_dir=str(tmp_path / "out"))
    assert make_fit_plan(request).traces.n_cells == 3
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


def test_a_plan_refuses_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    path = write_maturation(tmp_path / "a.csv", 3)

    def plan(csv_path: Path, **fields: Any) -> None:
        make_fit_plan(FittingRequest.parse(csv_path=str(csv_path), model_type="maturation", **fields))

    with pytest.raises(InvalidParametersError, match="there is no such file"):
        plan(tmp_path / "b.csv")
    with pytest.raises(InvalidParametersError, match="cannot be read"):
        plan(tmp_path)
    (tmp_path / "c.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InvalidParametersError, match="is no trace file"):
        plan(tmp_path / "c.csv")
    with pytest.raises(OutputError, match=r"a\.csv is a file, not a folder"):
        plan(path, output_dir=str(path / "out"))


_PLAN = """
import sys
from tasks.errors import OutputError
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FittingRequest
from tests.nobody import become_nobody
request = FittingRequest.parse(csv_path=sys.argv[1], model_type="maturation", output_dir=sys.argv[2])
make_fit_plan(request.model_copy(update={"output_dir": None}))
become_nobody()
try:
    make_fit_plan(request)
except OutputError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_entered_is_told_of() -> None:
    with TemporaryDirectory() as folder:
        path = write_maturation(Path(folder) / "a.csv", 3)
        closed = Path(folder) / "closed"
        closed.mkdir(0)
        Path(folder).chmod(0o755)
        assert f"cannot use {closed / 'out'}: no permission" in printed_by(_PLAN, path, closed / "out")
        assert f"{closed} cannot be written (no permission" in printed_by(_PLAN, path, closed)


def test_a_name_that_leaves_no_room_for_those_of_the_results_is_refused(tmp_path: Path) -> None:
    longest = "a" * (255 - 18 - len("_fitted_maturation_histograms.png"))
    path = write_maturation(tmp_path / f"{longest}.csv", 3)
    assert make_fit_plan(FittingRequest.parse(csv_path=str(path), model_type="maturation")).traces.n_cells == 3
    path = write_maturation(tmp_path / f"{longest}a.csv", 3)
    with pytest.raises(InvalidParametersError, match=r"csv_path: the name of .* is too long"):
        make_fit_plan(FittingRequest.parse(csv_path=str(path), model_type="maturation", output_dir=str(tmp_path)))
