"""Which channel is suggested as phase, and what is measured in each."""

from pathlib import Path

import numpy as np
import pytest

from tasks.acquisition import RecordingMetadata, open_recording, suggest_channels
from tasks.configuration import Channels
from tasks.errors import InvalidParametersError

REAL = Path(__file__).parent / "data" / "nd2_real"
FLUORESCENCE = frozenset({"fluorescence", "camera"})


def recording(*names: str, modalities: tuple[frozenset[str], ...] | None = None) -> RecordingMetadata:
    return RecordingMetadata(
        path=Path("/data/film.nd2"),
        file_type="nd2",
        n_fovs=1,
        n_frames=1,
        n_planes=1,
        channel_names=names,
        channel_modalities=modalities or (FLUORESCENCE,) * len(names),
        height=1,
        width=1,
        dtype=np.dtype(np.uint16),
        pixel_size_um=None,
        times_min=np.zeros((1, 1)),
    )


def phase_of(metadata: RecordingMetadata) -> int | None:
    phase = suggest_channels(metadata).phase
    return None if phase is None else phase.channel


@pytest.mark.parametrize(
    "name",
    ["Phase", "PHASE", "Ph1", "ph 2", "PC-Phase", "pc", "BF 10x", "BF10x", "Brightfield", "BrightField",
     "bright field", "DIC", "10x_DIC", "Trans", "TL", "TL-20", "Mono", "PhaseContrast", "c1_phase"],
)  # fmt: skip
def test_phase_is_found_by_a_whole_word_of_its_name(name: str) -> None:
    assert phase_of(recording("GFP", name)) == 1


@pytest.mark.parametrize(
    "name", ["GraPHite", "Phalloidin", "pHluorin", "BFP", "PCNA", "TLR4", "Transferrin", "Monomer", "dictyo", ""]
)
def test_a_part_of_a_word_is_no_name(name: str) -> None:
    assert phase_of(recording("GFP", name)) is None


def test_the_more_telling_name_wins() -> None:
    assert phase_of(recording("Mono", "BF", "Phase")) == 2


def test_the_first_of_two_channels_with_one_name_wins() -> None:
    assert phase_of(recording("GFP", "Phase", "Phase late")) == 1


@pytest.mark.parametrize("modality", ["phaseContrast", "diContrast", "brightfield"])
def test_without_a_name_the_modality_tells(modality: str) -> None:
    metadata = recording("a", "b", modalities=(FLUORESCENCE, frozenset({modality, "camera"})))
    assert phase_of(metadata) == 1


def test_the_name_comes_before_the_modality() -> None:
    metadata = recording("GFP", "DIC", modalities=(frozenset({"brightfield"}), FLUORESCENCE))
    assert phase_of(metadata) == 1


@pytest.mark.parametrize(
    ("name", "phase"),
    [("cerevisiae", 0), ("multichannel", 0), ("timelapse", None), ("zstack", None)],
)
def test_real_recordings(name: str, phase: int | None) -> None:
    with open_recording(REAL / f"example-{name}.nd2") as real:
        assert phase_of(real.metadata) == phase


def test_the_json_is_the_documented_channels() -> None:
    channels = suggest_channels(recording("Phase", "GFP", "RFP")).as_json()
    assert channels == {
        "phase": {"channel": 0, "features": ["area", "aspect_ratio"]},
        "fluorescence": [
            {"channel": 1, "features": ["intensity_total"]},
            {"channel": 2, "features": ["intensity_total"]},
        ],
    }


def test_the_json_is_accepted_as_a_request() -> None:
    suggestion = suggest_channels(recording("GFP", "Phase"))
    assert Channels.model_validate(suggestion.as_json()) == suggestion.channels()


def test_a_phase_channel_alone_has_no_fluorescence() -> None:
    assert suggest_channels(recording("Phase")).as_json()["fluorescence"] == []


def test_without_a_phase_channel_the_json_says_why() -> None:
    channels = suggest_channels(recording("GFP", "RFP")).as_json()
    assert channels["phase"] is None
    assert [channel["channel"] for channel in channels["fluorescence"]] == [0, 1]
    assert "0 (GFP), 1 (RFP)" in channels["reason"]


def test_without_a_phase_channel_there_are_no_channels_to_process() -> None:
    with pytest.raises(InvalidParametersError, match=r"channels\.phase: no channel looks like"):
        suggest_channels(recording("GFP", "RFP")).channels()
