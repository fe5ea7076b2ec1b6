"""Recordings as they come from the microscope: open one, read its frames, suggest what its channels are."""

from tasks.acquisition.opening import known_suffixes, open_recording
from tasks.acquisition.protocol import Recording, RecordingMetadata, ZPlane
from tasks.acquisition.suggestion import Suggestion, suggest_channels

__all__ = [
    "Recording",
    "RecordingMetadata",
    "Suggestion",
    "ZPlane",
    "known_suffixes",
    "open_recording",
    "suggest_channels",
]
