"""Recordings as they come from the microscope: open one, read its frames, suggest what its channels are."""

from tasks.acquisition.formats import FORMATS
from tasks.acquisition.names import (
    base_name,
    ending_of,
    format_of,
    is_pattern,
    is_recording_file,
    is_recording_folder,
    recording_name,
)
from tasks.acquisition.opening import known_suffixes, open_recording, recording_files
from tasks.acquisition.protocol import Recording, RecordingMetadata, ZPlane
from tasks.acquisition.suggestion import Suggestion, suggest_channels

__all__ = [
    "FORMATS",
    "Recording",
    "RecordingMetadata",
    "Suggestion",
    "ZPlane",
    "base_name",
    "ending_of",
    "format_of",
    "is_pattern",
    "is_recording_file",
    "is_recording_folder",
    "known_suffixes",
    "open_recording",
    "recording_files",
    "recording_name",
    "suggest_channels",
]
