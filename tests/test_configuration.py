"""The request models: what they take, what they refuse, and what they say about it."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.configuration import (
    Channels,
    FluorescenceChannel,
    Parameters,
    PhaseChannel,
    ScienceParameters,
    WorkflowRequest,
    check_channels,
)
from tasks.errors import InvalidParametersError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.fov_range import MOST_FOVS, parse_fovs

DOCUMENTED: dict[str, Any] = {
    "microscopy_path": "/path/to/file.nd2",
    "output_dir": "/path/to/output",
    "channels": {
        "phase": {"channel": 0, "features": ["area", "aspect_ratio"]},
        "fluorescence": [{"channel": 1, "features": ["intensity_total"]}],
    },
    "parameters": {"fov_start": 0, "fov_end": 99, "batch_size": 2, "n_workers": 2},
}


def subsets(names: Iterable[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(names)), unique=True)


@st.composite
def channels(draw: st.DrawFn) -> dict[str, Any]:
    numbers = draw(st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True))
    return {
        "phase": {"channel": numbers[0], "features": draw(subsets(PHASE_FEATURES))},
        "fluorescence": [
            {"channel": number, "features": draw(subsets(FLUORESCENCE_FEATURES))} for number in numbers[1:]
        ],
    }


shares = st.floats(0, 1)
counts = st.integers(1, 10**6)
parallelism = st.one_of(st.none(), st.integers(1, 256))
parameters = st.fixed_dictionaries(
    {},
    optional={
        "background_weight": shares,
        "erosion_size": st.integers(0, 100),
        "min_frames": counts,
        "border_margin": st.integers(0, 10**6),
        "min_iou": shares,
        "min_area": st.one_of(st.none(), st.integers(1, 100)),
        "max_area": st.one_of(st.none(), st.integers(100, 10**6)),
        "logstd_arithmetic": st.sampled_from(["float32", "exact"]),
        "segmentation": st.one_of(
            st.just({"method": "logstd"}),
            st.fixed_dictionaries(
                {"method": st.just("texture")},
                optional={"split": shares, "pixel_size_um": st.floats(0.01, 10), "min_area_um2": st.floats(0, 1000)},
            ),
        ),
        "tracking": st.fixed_dictionaries(
            {"method": st.just("overlap")}, optional={"max_gap": st.integers(0, 100), "divisions": st.booleans()}
        ),
        "z_plane": st.one_of(st.integers(0, 100), st.sampled_from(["middle", "max"])),
        "keep": st.sampled_from(["all", "labels", "none"]),
        "fov_start": st.integers(0, 100),
        "fov_end": st.one_of(st.none(), st.integers(100, 200)),
        "batch_size": parallelism,
        "n_workers": parallelism,
        "overwrite": st.booleans(),
    },
)
requests = st.fixed_dictionaries(
    {"microscopy_path": st.just("/data/film.nd2"), "output_dir": st.just("/data/out"), "channels": channels()},
    optional={"parameters": parameters},
)


def problem(**changes: Any) -> str:
    """What is said of a request that differs from the documented one."""
    with pytest.raises(InvalidParametersError) as refused:
        WorkflowRequest.parse(**{**DOCUMENTED, **changes})
    return str(refused.value)


def test_documented_request() -> None:
    request = WorkflowRequest.parse(**DOCUMENTED)
    assert request.channels.numbers == [0, 1]
    assert request.channels.phase.features == ["area", "aspect_ratio"]
    assert request.parameters.select_fovs(100) == list(range(100))
    assert (request.parameters.batch_size, request.parameters.n_workers) == (2, 2)


@given(requests)
def test_json_of_a_request_is_the_request(raw: dict[str, Any]) -> None:
    request = WorkflowRequest.parse(**raw)
    assert WorkflowRequest.model_validate_json(request.model_dump_json()) == request
    assert WorkflowRequest.parse(**request.model_dump(mode="json")) == request


@given(requests)
def test_what_is_given_is_what_is_taken(raw: dict[str, Any]) -> None:
    request = WorkflowRequest.parse(**raw)
    assert request.model_dump(exclude_unset=True).get("parameters", {}) == raw.get("parameters", {})
    assert request.channels.numbers == [
        raw["channels"]["phase"]["channel"],
        *(channel["channel"] for channel in raw["channels"]["fluorescence"]),
    ]


@given(requests)
def test_configuration_does_not_know_how_it_is_executed(raw: dict[str, Any]) -> None:
    configuration = WorkflowRequest.parse(**raw).configuration()
    science = {
        name: value for name, value in raw.get("parameters", {}).items() if name in ScienceParameters.model_fields
    }
    assert configuration.parameters == ScienceParameters(**science)
    assert type(configuration.parameters) is ScienceParameters


@given(subsets(PHASE_FEATURES), subsets(FLUORESCENCE_FEATURES))
def test_features_are_in_the_order_of_the_registry(phase: list[str], fluorescence: list[str]) -> None:
    assert PhaseChannel(channel=0, features=phase).features == [n for n in PHASE_FEATURES if n in phase]
    assert FluorescenceChannel(channel=0, features=fluorescence).features == [
        name for name in FLUORESCENCE_FEATURES if name in fluorescence
    ]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
fields = st.sampled_from(
    [*DOCUMENTED, "parameters.fovs", "parameters.z_plane", "channels.phase", "channels.fluorescence"]
)


@given(fields, json_values)
def test_any_json_is_taken_or_refused_with_a_message(field: str, value: Any) -> None:
    name, _, inner = field.partition(".")
    changed = {**DOCUMENTED, name: {**DOCUMENTED[name], inner: value} if inner else value}
    try:
        WorkflowRequest.parse(**changed)
    except InvalidParametersError as error:
        assert name in str(error)  # noqa: PT017 - both ends are right, and only one has a message


@given(st.sampled_from(["batch_size", "n_workers"]), st.integers().filter(lambda number: not 1 <= number <= 256))
def test_parallelism_out_of_range(name: str, value: int) -> None:
    message = problem(parameters={name: value})
    assert message.startswith(f"parameters.{name}: allowed are 1 to 256 (got {str(value)[:70]}")


@given(
    st.sampled_from(["background_weight", "min_iou"]),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not 0 <= number <= 1),
)
def test_share_out_of_range(name: str, value: float) -> None:
    assert problem(parameters={name: value}) == f"parameters.{name}: allowed are 0 to 1 (got {value!r})"


@pytest.mark.parametrize("name", ["min_frames", "min_area", "max_area"])
def test_count_out_of_range(name: str) -> None:
    assert problem(parameters={name: 0}) == f"parameters.{name}: allowed are 1 or more (got 0)"


@given(
    st.sampled_from(["min_frames", "border_margin", "min_area", "max_area", "fov_start", "fov_end"]),
    st.integers(2**31, 2**70),
)
def test_number_that_the_orchestrator_could_not_keep(name: str, value: int) -> None:
    assert problem(parameters={name: value}) == f"parameters.{name}: allowed are at most 2147483647 (got {value})"
    assert problem(channels={"phase": {"channel": value}}).startswith("channels.phase.channel: allowed are at most")


def test_the_schema_knows_the_limits_of_every_number() -> None:
    for name, field in Parameters.model_json_schema()["properties"].items():
        for kind in field.get("anyOf", [field]):
            if kind.get("type") in {"integer", "number"}:
                assert {"minimum", "maximum"} <= kind.keys(), name


@pytest.mark.parametrize("value", ["2", 2.0, True])
def test_nothing_is_converted_silently(value: object) -> None:
    expected = f"parameters.n_workers: Input should be a valid integer (got {value!r})"
    assert problem(parameters={"n_workers": value}) == expected


@given(st.text(min_size=1, max_size=20).filter(lambda name: name not in Parameters.model_fields))
def test_unknown_parameter(name: str) -> None:
    assert "unknown field (got 1)" in problem(parameters={name: 1})


def test_unknown_feature_and_what_there_is() -> None:
    message = problem(channels={"phase": {"channel": 0, "features": ["colour"]}})
    assert message == (
        f"channels.phase.features: unknown feature 'colour'; available: {', '.join(PHASE_FEATURES)} (got ['colour'])"
    )


def test_feature_named_twice() -> None:
    message = problem(channels={"phase": {"channel": 0, "features": ["area", "area"]}})
    assert message.startswith("channels.phase.features: a feature is named twice")


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_channel_used_twice(numbers: list[int]) -> None:
    raw = {"phase": {"channel": numbers[0]}, "fluorescence": [{"channel": number} for number in numbers[1:]]}
    if len(set(numbers)) == len(numbers):
        assert Channels.model_validate(raw).numbers == numbers
    else:
        with pytest.raises(ValidationError, match=r"channel \d is used twice; each channel can have one role"):
            Channels.model_validate(raw)


def test_no_fluorescence_channel_is_needed() -> None:
    assert WorkflowRequest.parse(**{**DOCUMENTED, "channels": {"phase": {"channel": 3}}}).channels.numbers == [3]


@pytest.mark.parametrize("field", ["microscopy_path", "output_dir"])
@pytest.mark.parametrize("path", ["file.nd2", "./file.nd2", "../file.nd2", "~/file.nd2"])
def test_relative_path(field: str, path: str) -> None:
    assert problem(**{field: path}).startswith(f"{field}: must be an absolute path")


@pytest.mark.parametrize("path", ["", "/a\0b", "/" + "x" * 5000, None, 7])
def test_path_that_is_none(path: object) -> None:
    assert problem(output_dir=path).startswith("output_dir: ")


def test_long_values_are_shortened() -> None:
    assert len(problem(output_dir="x" * 4000)) < 200


def test_all_that_is_wrong_in_one_line() -> None:
    message = problem(output_dir="out", parameters={"keep": "some", "n_workers": 0})
    assert [part.split(":")[0] for part in message.split("; ")] == [
        "output_dir",
        "parameters.keep",
        "parameters.n_workers",
    ]
    assert "\n" not in message


def test_everything_is_missing() -> None:
    with pytest.raises(InvalidParametersError, match="microscopy_path: is missing; output_dir: is missing"):
        WorkflowRequest.parse()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fov_start": 3, "fov_end": 2}, "parameters: fov_end 2 is before fov_start 3"),
        ({"fovs": "1", "fov_start": 0}, "parameters: fovs cannot be combined with fov_start and fov_end"),
        ({"min_area": 9, "max_area": 8}, "parameters: min_area 9 is above max_area 8"),
    ],
)
def test_parameters_that_do_not_fit_together(parameters: dict[str, Any], message: str) -> None:
    assert problem(parameters=parameters).startswith(message)


@given(st.integers(1, 50), st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60)))
def test_fov_range_is_inclusive_and_inside_the_file(n_fovs: int, start: int, end: int | None) -> None:
    last = n_fovs - 1 if end is None else end
    if end is not None and end < start:
        return
    parameters = Parameters(fov_start=start, fov_end=end)
    if start < n_fovs and last < n_fovs:
        assert parameters.select_fovs(n_fovs) == list(range(start, last + 1))
    else:
        with pytest.raises(InvalidParametersError, match=rf"outside the file; .* 0 to {n_fovs - 1} are allowed"):
            parameters.select_fovs(n_fovs)


@given(st.integers(1, 50), st.sets(st.integers(0, 60), min_size=1))
def test_single_fovs_are_inside_the_file(n_fovs: int, fovs: set[int]) -> None:
    parameters = Parameters.model_validate({"fovs": list(fovs)})
    if max(fovs) < n_fovs:
        assert parameters.select_fovs(n_fovs) == sorted(fovs)
    else:
        message = f"parameters.fovs: FOV {max(fovs)} does not exist; the recording has {n_fovs} FOVs"
        with pytest.raises(InvalidParametersError, match=message):
            parameters.select_fovs(n_fovs)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"phase": {"channel": 2}},
            "channels.phase.channel: the recording has no channel 2; it has 0 (Phase), 1 (GFP)",
        ),
        (
            {"phase": {"channel": 0}, "fluorescence": [{"channel": 1}, {"channel": 5}]},
            "channels.fluorescence.1.channel: the recording has no channel 5; it has 0 (Phase), 1 (GFP)",
        ),
    ],
)
def test_channel_that_the_recording_lacks(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParametersError, match=re.escape(message)):
        check_channels(Channels.model_validate(chosen), ["Phase", "GFP"])


def test_channels_that_the_recording_has() -> None:
    check_channels(Channels.model_validate({"phase": {"channel": 1}, "fluorescence": [{"channel": 0}]}), ["GFP", "DIC"])


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, set[int]]:
    """A text of numbers and ranges, and what it means."""
    parts, meant = [], set[int]()
    for first in draw(st.lists(st.integers(0, 300), min_size=1, max_size=6)):
        last = first + draw(st.integers(0, 20))
        space = draw(st.sampled_from(["", " "]))
        parts.append(f"{space}{first}{space}" if first == last else f"{first}{space}-{space}{last}{space}")
        meant |= set(range(first, last + 1))
    return ",".join(parts), meant


@given(specs())
def test_fov_text(spec: tuple[str, set[int]]) -> None:
    text, meant = spec
    assert parse_fovs(text) == sorted(meant)


@given(st.lists(st.integers(0, MOST_FOVS - 1), min_size=1))
def test_fov_list(numbers: list[int]) -> None:
    assert parse_fovs(numbers) == sorted(set(numbers))
    assert parse_fovs(numbers[0]) == [numbers[0]]


@given(st.lists(st.integers(0, MOST_FOVS - 1), min_size=1))
def test_fov_list_is_the_same_as_its_text(numbers: list[int]) -> None:
    assert parse_fovs(", ".join(map(str, numbers))) == parse_fovs(numbers)


@given(st.one_of(st.text(st.sampled_from("0123456789-, x"), max_size=12), json_values))
def test_any_fov_specification_is_a_sorted_list_or_refused(spec: Any) -> None:
    try:
        fovs = parse_fovs(spec)
    except ValueError:
        return
    assert fovs == sorted(set(fovs))
    assert fovs[0] >= 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0-4, x", "cannot understand 'x' in '0-4, x'"),
        ("", "cannot understand ''"),
        ("1,,2", "cannot understand ''"),
        ("5-2", "range '5-2' ends before it starts"),
        ("0-100000", "FOV 100000 in '0-100000' is beyond 99999"),
        ("-1", "cannot understand '-1'"),
        (-1, "FOV -1 is negative"),
        (100000, "FOV 100000 is beyond 99999"),
        ([7, 10**20], f"FOV {10**20} is beyond 99999"),
        ([3, -2], "FOV -2 is negative"),
        ([], "no FOV is named"),
        ([1, "2"], "a list of FOVs holds whole numbers only"),
        ([True], "a list of FOVs holds whole numbers only"),
        (1.5, "FOVs are given as"),
        (True, "FOVs are given as"),
    ],
)
def test_fov_specification_that_makes_no_sense(spec: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_fovs(spec)
