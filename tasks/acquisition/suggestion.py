"""Suggesting what the channels of a recording are: which shows the cells, which their fluorescence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.acquisition.protocol import RecordingMetadata
from tasks.configuration import Channels, FluorescenceChannel, PhaseChannel
from tasks.errors import InvalidParametersError

PHASE_NAMES = ("phase", "ph", "pc", "bf", "brightfield", "dic", "trans", "tl", "mono")
"""Words of a channel's name that tell transmitted light, the most telling first."""
PHASE_MODALITIES = ("phaseContrast", "diContrast", "brightfield")
"""What a file says of a channel in transmitted light, the most telling first."""


@dataclass(frozen=True)
class Suggestion:
    """Channels of a recording and what to measure in them."""

    phase: PhaseChannel | None
    """None where no channel looks like one."""
    fluorescence: tuple[FluorescenceChannel, ...]
    reason: str | None = None
    """Why there is no phase channel."""

    def as_json(self) -> dict[str, Any]:
        """Make the `channels` of a request; with the reason where there is no phase channel."""
        channels: dict[str, Any] = {
            "phase": None if self.phase is None else self.phase.model_dump(),
            "fluorescence": [channel.model_dump() for channel in self.fluorescence],
        }
        return channels if self.reason is None else {**channels, "reason": self.reason}

    def channels(self) -> Channels:
        """Give the channels to process.

        Raises
        ------
        InvalidParametersError
            Where there is no phase channel; says why.
        """
        if self.phase is None:
            raise InvalidParametersError(f"channels.phase: {self.reason}")
        return Channels(phase=self.phase, fluorescence=list(self.fluorescence))


def suggest_channels(metadata: RecordingMetadata) -> Suggestion:
    """Suggest the phase channel by its name, else by its modality; all others are fluorescence.

    Names come first because files call real DIC and monochrome channels "fluorescence".
    """
    words = [_words(name) for name in metadata.channel_names]
    phase = _first_with(PHASE_NAMES, words)
    if phase is None:
        phase = _first_with(PHASE_MODALITIES, metadata.channel_modalities)
    fluorescence = tuple(
        FluorescenceChannel(channel=channel, features=["intensity_total"])
        for channel in range(metadata.n_channels)
        if channel != phase
    )
    if phase is None:
        there_are = ", ".join(f"{index} ({name})" for index, name in enumerate(metadata.channel_names))
        return Suggestion(
            None,
            fluorescence,
            "no channel looks like phase contrast or transmitted light by its name or modality; "
            f"say which of the channels it is: {there_are}",
        )
    return Suggestion(PhaseChannel(channel=phase, features=["area", "aspect_ratio"]), fluorescence)


def _first_with(tokens: Sequence[str], channels: Sequence[frozenset[str]]) -> int | None:
    """First channel with the first of the tokens that any channel has."""
    for token in tokens:
        for channel, present in enumerate(channels):
            if token in present:
                return channel
    return None


def _words(name: str) -> frozenset[str]:
    """Words of a name in small letters, also those set apart by capitals only: `PhaseContrast Ph1`."""
    runs = re.findall(r"[A-Za-z]+", name)
    parts = [part for run in runs for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", run)]
    words = frozenset(word.lower() for word in [*runs, *parts])
    return words | {"brightfield"} if {"bright", "field"} <= words else words
