"""Looking for recordings that are new: which are complete, what is to be done with them, and what is left out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition import recording_files
from tasks.errors import InvalidParametersError
from tasks.new_acquisitions import Finding, LeftOut, NewRecording, ScanRequest, attempt_key, scan
from tasks.output import OutputLock
from tests.format_writers import (
    WRITERS,
    film_of,
    write_ome_tiff,
    write_ome_tiff_set,
    write_tiff_series,
    write_zarr_05,
)
from tests.recordings import DATA, random_images, write_recording

BROKEN = DATA / "nd2_variants" / "truncated.nd2"
SIDECAR = "channels: {phase: {channel: 1}, fluorescence: [{channel: 0}]}\nparameters: {min_frames: 2}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that recordings come into."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    return incoming


def add(path: Path, seed: int = 0, **fields: Any) -> Path:
    """Have a recording come in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_recording(path, random_images(seed=seed), **fields)


def look(folder: Path, **fields: Any) -> list[Finding]:
    """Scan a folder whose recordings are complete, unless a time to settle is given."""
    asked = {"folder": str(folder), "output_root": str(folder.parent / "results"), "settle_s": 0, **fields}
    return scan(ScanRequest.parse(**asked), pause=lambda _: None)


def new(finding: Finding) -> NewRecording:
    """What a finding is, where it is a new recording."""
    assert isinstance(finding, NewRecording), finding
    return finding


def left_out(finding: Finding) -> LeftOut:
    """What a finding is, where the recording is left out."""
    assert isinstance(finding, LeftOut), finding
    return finding


def test_recordings_are_found_in_order_and_each_gets_its_own_output_folder(folder: Path) -> None:
    for name in ("b.nd2", "a/z.ND2", "a/b/c.nd2", "a.with.dots.nd2"):
        add(folder / name)
    (folder / "notes.txt").write_text("not a recording")
    found = [new(finding) for finding in look(folder)]
    assert [one.recording for one in found] == ["a/b/c.nd2", "a/z.ND2", "a.with.dots.nd2", "b.nd2"]
    results = folder.parent / "results"
    assert [one.plan.output_dir.relative_to(results).as_posix() for one in found] == [
        "a/b/c",
        "a/z",
        "a.with.dots",
        "b",
    ]
    assert not results.exists()


def test_hidden_files_results_and_what_lies_too_deep_are_passed_over(folder: Path) -> None:
    for name in ("top.nd2", ".hidden.nd2", ".trash/old.nd2", "results/copy.nd2", "1/one.nd2", "1/2/two.nd2"):
        add(folder / name)
    found = look(folder, max_depth=1, output_root=str(folder / "results"))
    assert [finding.recording for finding in found] == ["1/one.nd2", "top.nd2"]


def test_links_do_not_lead_out_of_the_folder_or_in_circles(folder: Path) -> None:
    outside = add(folder.parent / "secret" / "a.nd2")
    (folder / "linked.nd2").symlink_to(outside)
    (folder / "circle").symlink_to(folder)
    (finding,) = look(folder)
    assert left_out(finding) == LeftOut("linked.nd2", "skipped", "it is a link that leads out of the folder")


def test_a_recording_that_changed_lately_is_left_until_it_settles(folder: Path) -> None:
    path = add(folder / "a.nd2")
    request = ScanRequest(folder=str(folder), output_root=str(folder.parent / "results"), settle_s=600)
    changed_s = path.stat().st_mtime
    pauses: list[float] = []
    (finding,) = scan(request, clock=lambda: changed_s + 599, pause=pauses.append)
    assert left_out(finding).outcome == "skipped"
    assert "less than 600 s ago" in left_out(finding).why
    (finding,) = scan(request, clock=lambda: changed_s + 601, pause=pauses.append)
    assert new(finding).recording == "a.nd2"
    assert pauses == [10.0, 10.0]


def _append(path: Path) -> None:
    """Write on without a change of the time, as it is seen through some network file systems."""
    times = path.stat()
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _touch(path: Path) -> None:
    os.utime(path, (1.0, 1.0))


@pytest.mark.parametrize("change", [_append, _touch])
def test_a_recording_that_changes_while_it_is_looked_at_is_left(folder: Path, change: Callable[[Path], None]) -> None:
    written, complete = add(folder / "a.nd2"), add(folder / "b.nd2")
    request = ScanRequest(folder=str(folder), output_root=str(folder.parent / "results"), settle_s=0)
    first, second = scan(request, pause=lambda _: change(written))
    assert "it is being written" in left_out(first).why
    assert new(second).plan.metadata.path == complete


def test_channels_come_from_the_sidecar_else_the_default_else_the_suggestion(folder: Path) -> None:
    names = ("GFP", "Phase")
    add(folder / "day" / "own.nd2", channel_names=names)
    (folder / "day" / "own.pyama.yaml").write_text(SIDECAR)
    add(folder / "other.nd2", channel_names=names)
    own, other = (new(finding).plan.request for finding in look(folder))
    assert (own.channels.numbers, own.parameters.min_frames) == ([1, 0], 2)
    assert own.channels.phase.features == ["area"]
    assert other.channels.phase.features == ["area", "aspect_ratio"]
    assert other.parameters.model_fields_set == set()
    (folder / "pyama.yaml").write_text("channels: {phase: {channel: 0}}\nparameters: {keep: none}\n")
    own_again, other = (new(finding).plan.request for finding in look(folder))
    assert own_again == own
    assert (other.channels.numbers, other.parameters.keep) == ([0], "none")


def test_what_a_sidecar_leaves_open_comes_from_the_default(folder: Path) -> None:
    add(folder / "a.nd2")
    (folder / "a.pyama.yaml").write_text("parameters: {keep: labels}\n")
    (folder / "pyama.yaml").write_text("channels: {phase: {channel: 1}}\nparameters: {min_frames: 1}\n")
    request = new(look(folder)[0]).plan.request
    assert request.channels.numbers == [1]
    assert request.parameters.model_dump(exclude_unset=True) == {"keep": "labels"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("channels: {phase: {channel: -1}}", "a.pyama.yaml: channels.phase.channel: allowed are 0 or more"),
        ("parameters: {min_frame: 3}", "a.pyama.yaml: parameters.min_frame: unknown field"),
        ("parameters: {min_frames: many}", "a.pyama.yaml: parameters.min_frames: "),
        ("phase: 0", "a.pyama.yaml: phase: unknown field"),
        ("channels: {phase: {channel: 7}}", "a.pyama.yaml: channels.phase.channel: the recording has no channel 7"),
        ("parameters: {fovs: 5}", "a.pyama.yaml: parameters.fovs: FOV 5 does not exist"),
        ("channels: [", "a.pyama.yaml is no configuration: line "),
        ("a: &a []\nb: *a", "a.pyama.yaml is no configuration: line 1: aliases"),
        ("!!python/object/apply:os.getpid []", "a.pyama.yaml is no configuration: line 1"),
    ],
)
def test_a_wrong_sidecar_is_a_reason_to_skip_its_recording_alone(folder: Path, text: str, told: str) -> None:
    add(folder / "a.nd2")
    add(folder / "b.nd2")
    (folder / "a.pyama.yaml").write_text(text)
    first, second = look(folder)
    assert left_out(first).outcome == "skipped"
    assert told in left_out(first).why
    assert new(second).recording == "b.nd2"


def test_a_broken_recording_never_stops_the_rest(folder: Path) -> None:
    (folder / "a.nd2").write_bytes(BROKEN.read_bytes())
    (folder / "b.nd2").touch()
    (folder / "c.nd2").mkdir()
    (folder / "d.nd2").symlink_to(folder / "gone.nd2")
    add(folder / "e.nd2")
    (folder / os.fsdecode(b"f\xff.nd2")).write_bytes(b"")
    found = look(folder)
    assert [(one.recording, one.outcome) for one in map(left_out, (*found[:3], found[-1]))] == [
        ("a.nd2", "broken"),
        ("b.nd2", "broken"),
        ("d.nd2", "broken"),
        ("f\N{REPLACEMENT CHARACTER}.nd2", "skipped"),
    ]
    assert new(found[3]).recording == "e.nd2"
    assert "the file is empty" in left_out(found[1]).why
    assert "does not exist" in left_out(found[2]).why


def test_what_does_not_fit_a_recording_is_told_with_the_file_that_says_it(folder: Path) -> None:
    add(folder / "a.nd2")
    (folder / "pyama.yaml").write_text("parameters: {fovs: 5}")
    assert left_out(look(folder)[0]).why.startswith("pyama.yaml: parameters.fovs: FOV 5 does not exist")
    add(folder / "a.nd2", channel_names=("GFP", "mCherry"))
    (folder / "pyama.yaml").write_text("channels: {phase: {channel: 7}}")
    (folder / "a.pyama.yaml").write_text("parameters: {min_frames: 1}")
    why = left_out(look(folder)[0]).why
    assert why.startswith("a.pyama.yaml, pyama.yaml: channels.phase.channel: the recording has no channel 7")


def test_a_wrong_default_is_told_by_its_name_alone(folder: Path) -> None:
    add(folder / "a.nd2")
    (folder / "a.pyama.yaml").write_text("parameters: {min_frames: 1}")
    (folder / "pyama.yaml").write_text("channels: {phase: 0}")
    assert left_out(look(folder)[0]).why.startswith("pyama.yaml: channels.phase: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_must_not_be_read_is_told(folder: Path) -> None:
    add(folder / "a.nd2")
    (folder / "closed").mkdir(mode=0)
    closed, recording = look(folder)
    assert left_out(closed) == LeftOut("closed", "broken", "cannot be read: Permission denied")
    assert new(recording).recording == "a.nd2"


def test_a_folder_in_use_is_left(folder: Path) -> None:
    add(folder / "a.nd2")
    output = folder.parent / "results" / "a"
    output.mkdir(parents=True)
    with OutputLock(output, "another run"):
        (finding,) = look(folder)
    assert "folder in use by run another run" in left_out(finding).why


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"folder": "incoming"}, "folder: must be an absolute path"),
        ({"folder": "/nowhere"}, "folder: /nowhere is no folder"),
        ({"settle_s": -1}, "settle_s: "),
        ({"max_depth": 65}, "max_depth: "),
        ({"wait": "yes"}, "wait: "),
    ],
)
def test_a_scan_that_cannot_be_is_refused(folder: Path, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidParametersError, match=told):
        scan(ScanRequest.parse(**{"folder": str(folder), "output_root": "/results", **fields}))


def test_identity_is_of_the_content_and_of_what_is_done_with_it(folder: Path) -> None:
    add(folder / "a.nd2")
    (folder / "copy").mkdir()
    (folder / "a.nd2").rename(folder / "copy" / "b.nd2")
    before = new(look(folder)[0]).identity
    (folder / "copy" / "b.nd2").rename(folder / "a.nd2")
    assert new(look(folder)[0]).identity == before
    identities = {before}
    for text in ("parameters: {keep: none}", "parameters: {n_workers: 3}", "channels: {phase: {channel: 1}}"):
        (folder / "pyama.yaml").write_text(text)
        identities.add(new(look(folder)[0]).identity)
    assert len(identities) == 3  # how many threads compute is no part of it
    (folder / "pyama.yaml").unlink()
    add(folder / "a.nd2", seed=1)
    assert new(look(folder)[0]).identity not in identities


# Other formats


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_recording_of_any_format_is_found_once(folder: Path, name: str) -> None:
    (folder / "day").mkdir()
    path = WRITERS[name](folder / "day", film_of(random_images(2, 3)))
    recording = new(look(folder)[0])
    assert len(look(folder)) == 1
    assert recording.recording == f"day/{path.name}"
    metadata = recording.plan.metadata
    assert (metadata.n_fovs, metadata.n_frames) == (2, 3)
    assert recording.plan.output_dir == folder.parent / "results" / "day" / metadata.base_name
    assert recording.plan.request.channels.numbers == [0, 1]


def test_a_companion_file_stands_for_its_set(folder: Path) -> None:
    write_ome_tiff(folder, film_of(random_images(2, 3)), lambda fov, *_: f"a{fov}.ome.tif", companion="b.companion.ome")
    (finding,) = look(folder)
    assert new(finding).recording == "b.companion.ome"


def test_the_sidecar_of_another_format_has_its_name_too(folder: Path) -> None:
    write_zarr_05(folder, film_of(random_images(1, 3)))
    (folder / "film.pyama.yaml").write_text(SIDECAR)
    assert new(look(folder)[0]).plan.request.channels.numbers == [1, 0]


def test_tiff_files_of_no_series_are_told_once_for_each_folder(folder: Path) -> None:
    (folder / "day").mkdir()
    series = write_tiff_series(folder / "day", film_of(random_images(2, 3)))
    series.unlink()
    (finding,) = look(folder)
    assert left_out(finding).recording == "day/*.tif"
    assert left_out(finding).why.startswith("12 TIFF files without .ome.tif at the end of the name; tell what they are")


def test_a_recording_of_many_files_settles_as_a_whole(folder: Path) -> None:
    path = write_tiff_series(folder, film_of(random_images(2, 3)))
    files = recording_files(path)
    for number, file in enumerate(files):
        os.utime(file, (1000.0 + number, 1000.0 + number))
    request = ScanRequest(folder=str(folder), output_root=str(folder.parent / "results"), settle_s=600)
    last_s = 1000.0 + len(files) - 1
    (finding,) = scan(request, clock=lambda: last_s + 599, pause=lambda _: None)
    assert "less than 600 s ago" in left_out(finding).why
    (finding,) = scan(request, clock=lambda: last_s + 601, pause=lambda _: None)
    assert new(finding).recording == "film.series.yaml"


@pytest.mark.parametrize("name", ["tiff-series", "ome-zarr-0.4", "ome-tiff-set"])
def test_a_file_that_comes_while_it_is_looked_at_belongs_to_the_recording(folder: Path, name: str) -> None:
    path = WRITERS[name](folder, film_of(random_images(2, 3)))
    request = ScanRequest(folder=str(folder), output_root=str(folder.parent / "results"), settle_s=0)
    late = recording_files(path)[-1]
    content = late.read_bytes()
    late.unlink()

    def finish(_: float) -> None:
        late.write_bytes(content)

    (finding,) = scan(request, pause=finish)
    assert "it is being written" in left_out(finding).why


def test_a_set_that_lacks_a_file_is_broken(folder: Path) -> None:
    write_ome_tiff_set(folder, film_of(random_images(2, 3)))
    (folder / "film_s1_c1.ome.tif").unlink()
    (finding,) = look(folder)
    assert left_out(finding).outcome == "broken"
    assert "'film_s1_c1.ome.tif' is not beside it" in left_out(finding).why


def test_what_lies_in_an_ome_zarr_is_no_recording_of_its_own(folder: Path) -> None:
    path = write_zarr_05(folder, film_of(random_images(1, 3)))
    add(path / "A" / "inside.nd2")
    (finding,) = look(folder)
    assert new(finding).recording == "film.ome.zarr"


def test_the_identity_of_a_recording_of_many_files_is_of_all_of_them(folder: Path) -> None:
    path = write_tiff_series(folder, film_of(random_images(2, 3)))
    before = new(look(folder)[0]).identity
    content = bytearray(recording_files(path)[-1].read_bytes())
    content[-1] ^= 1
    recording_files(path)[-1].write_bytes(content)
    assert new(look(folder)[0]).identity != before


def test_each_attempt_has_a_key_of_its_own() -> None:
    keys = {attempt_key(identity, attempt) for identity in ("a", "b") for attempt in (1, 2, 3)}
    assert len(keys) == 6
    assert attempt_key("a", 1) in keys


def test_the_images_of_results_are_no_recordings(tmp_path: Path) -> None:
    """A job may have written its results beside the recordings, as OME-Zarr images."""
    folder = tmp_path / "incoming"
    add(folder / "film.nd2")
    fov = folder / "film" / "fov_000"
    (fov / "film_fov_000_pc_ch_0.ome.zarr").mkdir(parents=True)
    (fov / "manifest.json").write_text("{}")
    assert len(look(folder)) == 1
    (fov / "manifest.json").unlink()  # then it is anybody's folder
    assert len(look(folder)) == 2
