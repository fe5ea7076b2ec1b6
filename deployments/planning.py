"""From the options of a command to a run that is known to be possible, before any engine starts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tasks.acquisition import RecordingMetadata, open_recording, suggest_channels
from tasks.configuration import Channels, FluorescenceChannel, PhaseChannel, WorkflowRequest
from tasks.errors import InvalidParametersError
from tasks.output import check_folder
from tasks.plan import Plan, make_plan

NO_FLUORESCENCE = "none"
"""In place of a fluorescence channel: there is none to measure."""


def plan_run(
    recording: Path, output_dir: Path, phase: str | None, fluorescence: Sequence[str], parameters: Mapping[str, Any]
) -> Plan:
    """Check everything that can be checked; nothing is created or changed.

    Parameters
    ----------
    recording, output_dir
        Paths; relative ones are taken from the current folder.
    phase
        Channel and features as the user wrote them, e.g. `0:area` or `Phase`; None for what the metadata suggest.
    fluorescence
        The same for each fluorescence channel; empty for what the metadata suggest, `none` for no channel.
    parameters
        Raw parameters of the request.

    Raises
    ------
    PyamaError
        Saying what is wrong, with which value, and what is allowed.
    """
    recording, output_dir = recording.absolute(), output_dir.absolute()
    with open_recording(recording) as opened:
        metadata = opened.metadata
    request = WorkflowRequest.parse(
        microscopy_path=str(recording),
        output_dir=str(output_dir),
        channels=_choose_channels(metadata, phase, fluorescence),
        parameters=dict(parameters),
    )
    plan = make_plan(request)
    check_folder(output_dir, plan.provenance, plan.fovs, overwrite=request.parameters.overwrite)
    return plan


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check parameters before there is a recording that they are for.

    Raises
    ------
    InvalidParametersError
        One message that names each wrong field, its value, and what is allowed.
    """
    paths = {"microscopy_path": "/", "output_dir": "/"}
    WorkflowRequest.parse(**paths, channels={"phase": {"channel": 0}}, parameters=dict(parameters))


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Parameters from `NAME=VALUE` texts; a value is a YAML scalar, e.g. `0.5`, `true`, `null` or `middle`.

    Raises
    ------
    InvalidParametersError
        Naming the text that is no assignment, or the name that is assigned twice.
    """
    settings: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InvalidParametersError(f"--set {text!r} is no assignment; write NAME=VALUE, e.g. min_frames=10")
        if name in settings:
            raise InvalidParametersError(f"--set {name} is given twice; give each parameter once")
        settings[name] = _scalar(text, value)
    return settings


def join_parameters(settings: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of `--set` and of options of their own, of which None means not given.

    Raises
    ------
    InvalidParametersError
        Where both name the same parameter.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() & settings.keys():
        raise InvalidParametersError(f"{name} is given twice: by --set and by --{name.replace('_', '-')}; give it once")
    return {**settings, **given}


def describe_channels(channels: Channels, names: Sequence[str]) -> str:
    """Say in words what is measured in which channel."""

    def measured(channel: PhaseChannel | FluorescenceChannel) -> str:
        return f"{channel.channel} ({names[channel.channel]}): {', '.join(channel.features)}"

    return "; ".join(
        [f"phase {measured(channels.phase)}", *(f"fluorescence {measured(one)}" for one in channels.fluorescence)]
    )


def _scalar(text: str, value: str) -> object:
    try:
        parsed: object = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InvalidParametersError(f"--set {text!r}: the value cannot be understood; quote it") from error
    if parsed == value.strip():
        with suppress(ValueError):
            return float(value)  # to YAML 1.1, 1e-3 is a text
    return parsed


def _choose_channels(metadata: RecordingMetadata, phase: str | None, fluorescence: Sequence[str]) -> dict[str, Any]:
    """Take the channels that are named, and what the metadata suggest in place of those that are not."""
    names = metadata.channel_names
    suggestion = suggest_channels(metadata)
    chosen_phase = (
        suggestion.channels().phase.model_dump() if phase is None else _parse_channel("--phase", phase, names)
    )
    if list(fluorescence) == [NO_FLUORESCENCE]:
        chosen_fluorescence = []
    elif fluorescence:
        chosen_fluorescence = [_parse_channel("--fluorescence", text, names) for text in fluorescence]
    else:
        suggested = (channel.model_dump() for channel in suggestion.fluorescence)
        chosen_fluorescence = [channel for channel in suggested if channel["channel"] != chosen_phase["channel"]]
    return {"phase": chosen_phase, "fluorescence": chosen_fluorescence}


def _parse_channel(option: str, text: str, names: Sequence[str]) -> dict[str, Any]:
    """Read `CH[:FEATURE,...]`; a channel's name may itself contain a colon."""
    if ":" not in text or text in names:
        return {"channel": _find_channel(option, text, names)}
    channel, _, features = text.rpartition(":")
    return {
        "channel": _find_channel(option, channel, names),
        "features": [name.strip() for name in features.split(",")],
    }


def _find_channel(option: str, text: str, names: Sequence[str]) -> int:
    there_are = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
    text = text.strip()
    if text.isdecimal():
        return int(text)
    found = [index for index, name in enumerate(names) if name == text]
    found = found or [index for index, name in enumerate(names) if name.casefold() == text.casefold()]
    if not found:
        raise InvalidParametersError(f"{option}: the recording has no channel {text!r}; it has {there_are}")
    if len(found) > 1:
        raise InvalidParametersError(f"{option}: several channels are called {text!r}; use a number: {there_are}")
    return found[0]
