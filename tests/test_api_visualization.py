"""Looking at results through the API: frames, labels, cells, traces, downloads; and as PyAMA's clients do."""

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.display import outline
from tests.api_server import BASE, api, error_of
from tests.flow_runs import film
from tests.nobody import printed_by
from tests.processed import process_film

N_FRAMES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("viewed")


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    """Two of three FOVs of a film, as a running job leaves them."""
    return process_film(folder, film(3, N_FRAMES), fovs=[0, 2])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FOV without stacks."""
    return process_film(tmp_path_factory.mktemp("bare"), film(1, N_FRAMES), keep="none")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


def get(client: httpx.Client, what: str, out: Path, headers: Any = None, **query: Any) -> httpx.Response:
    return client.get(f"{BASE}/visualization/{what}", params={"output_dir": str(out), **query}, headers=headers)


def pixels(response: httpx.Response) -> NDArray[Any]:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(BytesIO(response.content)))


def stack(out: Path, fov: int, ending: str) -> NDArray[Any]:
    images: NDArray[Any] = np.load(out / f"fov_{fov:03d}" / f"film_fov_{fov:03d}_{ending}.npy")
    return images


def table(out: Path, fov: int) -> pd.DataFrame:
    return pd.read_csv(out / f"fov_{fov:03d}" / f"film_fov_{fov:03d}_traces.csv")


def test_a_folder_tells_the_fovs_that_are_done(client: httpx.Client, out: Path) -> None:
    answer = get(client, "folder", out).json()
    assert (answer["success"], answer["output_dir"], answer["base_name"]) == (True, str(out), "film")
    assert answer["time_units"] == "min"
    assert [fov["fov"] for fov in answer["fovs"]] == [0, 2]
    first = answer["fovs"][0]
    assert (first["n_frames"], first["height"], first["width"], first["n_cells"]) == (N_FRAMES, 64, 64, 1)
    assert first["phase"] == {"channel": 0, "name": "Phase", "features": ["area"]}
    assert first["fluorescence"] == [{"channel": 1, "name": "GFP", "features": ["intensity_total"]}]
    assert first["stacks"] == ["phase", "fluorescence", "background", "labeled", "tracked"]
    assert (first["warnings"], first["inspected"]) == ([], False)
    assert first["traces_file"] == str(out / "fov_000" / "film_fov_000_traces.csv")


def test_a_folder_in_which_nothing_is_done_yet_is_empty(client: httpx.Client, tmp_path: Path) -> None:
    answer = get(client, "folder", tmp_path).json()
    assert (answer["success"], answer["base_name"], answer["fovs"]) == (True, None, [])


def test_only_what_was_kept_is_told(client: httpx.Client, bare: Path) -> None:
    assert get(client, "folder", bare).json()["fovs"][0]["stacks"] == []


@pytest.mark.parametrize(
    ("kind", "ending"), [("phase", "pc_ch_0"), ("fluorescence", "fl_ch_1"), ("background", "fl_background_ch_1")]
)
def test_an_image_shows_its_stack(client: httpx.Client, out: Path, kind: str, ending: str) -> None:
    shown = pixels(get(client, "image", out, fov=2, frame=3, kind=kind, minimum=0, maximum=255))
    expected = np.clip(np.rint(stack(out, 2, ending)[3].astype(np.float32)), 0, 255)
    assert shown.tolist() == expected.tolist()


def test_compressed_stacks_are_shown_alike(client: httpx.Client, out: Path, tmp_path: Path) -> None:
    compressed = process_film(tmp_path, film(3, N_FRAMES), fovs=[2], image_format="ome-zarr")
    (fov,) = get(client, "folder", compressed).json()["fovs"]
    assert fov["stacks"] == ["phase", "fluorescence", "background", "labeled", "tracked"]
    for kind in ("phase", "fluorescence", "background", "corrected"):
        asked = {"fov": 2, "frame": 3, "kind": kind, "outlines": True}
        np.testing.assert_array_equal(
            pixels(get(client, "image", compressed, **asked)), pixels(get(client, "image", out, **asked))
        )
    labels = get(client, "labels", compressed, fov=2, frame=3, kind="tracked")
    np.testing.assert_array_equal(pixels(labels), stack(out, 2, "seg_tracked_ch_0")[3])
    again = get(client, "labels", compressed, {"If-None-Match": labels.headers["ETag"]}, fov=2, frame=3, kind="tracked")
    assert again.status_code == 304


def test_corrected_is_fluorescence_minus_background(client: httpx.Client, out: Path) -> None:
    shown = pixels(get(client, "image", out, fov=0, frame=2, kind="corrected", minimum=-100, maximum=155))
    difference = stack(out, 0, "fl_ch_1")[2] - stack(out, 0, "fl_background_ch_1")[2].astype(np.float64)
    np.testing.assert_allclose(shown, np.clip(difference + 100, 0, 255), atol=0.51)


def test_contrast_is_by_percentiles_of_the_whole_frame_also_in_a_window(client: httpx.Client, out: Path) -> None:
    frame = stack(out, 0, "fl_ch_1")[1].astype(float)
    black, white = np.percentile(frame, (5, 90))
    expected = np.clip(255 * (frame - black) / (white - black), 0, 255)
    asked = {"fov": 0, "frame": 1, "kind": "fluorescence", "low": 5, "high": 90}
    np.testing.assert_allclose(pixels(get(client, "image", out, **asked)), expected, atol=0.51)
    window = pixels(get(client, "image", out, **asked, x0=10, y0=20, x1=40, y1=999))
    np.testing.assert_allclose(window, expected[20:, 10:40], atol=0.51)


def test_a_large_image_is_reduced(client: httpx.Client, out: Path) -> None:
    shown = pixels(get(client, "image", out, fov=0, frame=0, kind="phase", minimum=0, maximum=2550, max_size=16))
    expected = stack(out, 0, "pc_ch_0")[0].reshape(16, 4, 16, 4).mean(axis=(1, 3)) / 10
    np.testing.assert_allclose(shown, expected, atol=0.51)


def test_outlines_are_coloured_and_leave_all_else_as_it_is(client: httpx.Client, out: Path) -> None:
    asked: dict[str, Any] = {"fov": 0, "frame": 0, "kind": "phase", "x0": 5, "y0": 3, "x1": 30, "y1": 60}
    plain, drawn = (pixels(get(client, "image", out, **asked, outlines=outlines)) for outlines in (False, True))
    edge = outline(stack(out, 0, "seg_tracked_ch_0")[0])[3:60, 5:30]
    assert edge.any()
    coloured = (drawn != plain[:, :, np.newaxis]).any(axis=2)
    assert coloured.tolist() == edge.tolist()
    assert len(np.unique(drawn[edge], axis=0)) == 1


def test_numbers_are_written_at_the_cells(client: httpx.Client, out: Path) -> None:
    asked: dict[str, Any] = {"fov": 0, "frame": 0, "kind": "phase"}
    plain, drawn = (pixels(get(client, "image", out, **asked, numbers=numbers)) for numbers in (False, True))
    rows, columns = np.nonzero((drawn != plain[:, :, np.newaxis]).any(axis=2))
    cell = table(out, 0).iloc[0]
    assert rows.mean() == pytest.approx(cell["position_y"], abs=4)
    assert columns.mean() == pytest.approx(cell["position_x"], abs=4)
    assert np.ptp(rows) < 16
    assert np.ptp(columns) < 12


def test_webp_is_smaller_and_nearly_the_same(client: httpx.Client, out: Path) -> None:
    asked: dict[str, Any] = {"fov": 0, "frame": 3, "kind": "fluorescence"}
    png, webp = (get(client, "image", out, **asked, format=name) for name in ("png", "webp"))
    assert [answer.headers["content-type"] for answer in (png, webp)] == ["image/png", "image/webp"]
    assert len(webp.content) < len(png.content)
    assert np.abs(pixels(webp)[:, :, 0].astype(int) - pixels(png)).mean() < 12


@pytest.mark.parametrize("kind", ["labeled", "tracked"])
def test_labels_come_with_16_bits(client: httpx.Client, out: Path, kind: str) -> None:
    answer = get(client, "labels", out, fov=2, frame=1, kind=kind)
    labels = pixels(answer)
    assert labels.dtype.itemsize == 2 or labels.max() < 2**16
    assert labels.tolist() == stack(out, 2, f"seg_{kind}_ch_0")[1].tolist()
    header = answer.content[:26]
    assert (header[24], header[25]) == (16, 0)  # bits for each pixel, grey


IMAGE = {"what": "image", "fov": 0, "frame": 0, "kind": "phase"}
LABEL = {"what": "labels", "fov": 0, "frame": 0}


@pytest.mark.parametrize("asked", [IMAGE, LABEL])
def test_what_a_client_has_is_not_sent_again(client: httpx.Client, out: Path, asked: dict[str, Any]) -> None:
    first = get(client, out=out, **asked)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert "private" in first.headers["cache-control"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = get(client, out=out, headers={"If-None-Match": known}, **asked)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert get(client, out=out, headers={"If-None-Match": '"x"'}, **asked).status_code == 200
    other = get(client, out=out, **{**asked, "frame": 1}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


def test_an_etag_changes_with_the_result(client: httpx.Client, tmp_path: Path) -> None:
    tags = set()
    for seed in (1, 2):
        images = film(1, 2)
        images[0, 0, 1, 0, 0] += seed
        (tmp_path / "film.nd2").unlink(missing_ok=True)
        out = process_film(tmp_path, images, overwrite=True)
        answer = get(client, "image", out, fov=0, frame=0, kind="fluorescence", minimum=0, maximum=255)
        assert pixels(answer)[0, 0] == images[0, 0, 1, 0, 0]
        tags.add(answer.headers["etag"])
    assert len(tags) == 2


@pytest.mark.parametrize("kept", ["out", "bare"])
def test_a_click_finds_the_cell(client: httpx.Client, kept: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kept)
    row = table(folder, 0).query("frame == 2").iloc[0]
    inside = get(client, "cell", folder, fov=0, frame=2, x=row["position_x"], y=row["position_y"])
    assert inside.json()["cell"] == row["cell"]
    assert get(client, "cell", folder, fov=0, frame=2, x=1, y=1).json() == {
        "success": True,
        "error": None,
        "cell": None,
    }


def test_traces_are_those_of_the_table(client: httpx.Client, out: Path) -> None:
    answer = get(client, "traces", out, fov=2).json()
    assert answer["columns"] == [
        {"name": "area_ch_0", "channel": 0, "feature": "area", "unit": "px"},
        {"name": "intensity_total_ch_1", "channel": 1, "feature": "intensity_total", "unit": "counts"},
    ]
    assert (answer["total_cells"], answer["page"], answer["page_size"], answer["n_pages"]) == (1, 1, 50, 1)
    (cell,) = answer["cells"]
    expected = table(out, 2)
    assert (cell["cell"], cell["good"], cell["n_frames"]) == (1, True, N_FRAMES)
    assert cell["frames"] == expected["frame"].tolist()
    assert cell["time"] == expected["time"].tolist()
    assert cell["position_x"] == expected["position_x"].tolist()
    assert cell["boxes"] == expected[[f"bbox_{name}" for name in ("x0", "y0", "x1", "y1")]].to_numpy().tolist()
    assert cell["values"]["intensity_total_ch_1"] == expected["intensity_total_ch_1"].tolist()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FOV whose table has 25 cells, in any order, with an undefined value."""
    out = process_film(tmp_path_factory.mktemp("many"), film(1, 2), keep="none")
    path = out / "fov_000" / "film_fov_000_traces.csv"
    header, row = path.read_text().splitlines()[:2]
    fields = row.split(",")
    lines = []
    for cell in reversed(range(2, 52, 2)):
        for frame in (1, 0):
            area = "" if (cell, frame) == (4, 1) else f"{cell}.500000"
            lines.append(",".join([fields[0], str(cell), str(frame), *fields[3:11], area, *fields[12:]]))
    inspected = path.with_name("film_fov_000_traces_inspected.csv")
    inspected.write_text("\n".join([header, *lines]) + "\n")
    return out


def test_cells_come_page_by_page(client: httpx.Client, many: Path) -> None:
    seen = []
    for page in (1, 2, 3, 4):
        answer = get(client, "traces", many, fov=0, page=page, page_size=10).json()
        assert (answer["total_cells"], answer["n_pages"]) == (25, 3)
        seen.append([cell["cell"] for cell in answer["cells"]])
    assert [len(page) for page in seen] == [10, 10, 5, 0]
    assert list(chain(*seen)) == list(range(2, 52, 2))


def test_cells_and_features_can_be_chosen(client: httpx.Client, many: Path) -> None:
    answer = get(client, "traces", many, fov=0, cells="8, 4", feature="area").json()
    assert [cell["cell"] for cell in answer["cells"]] == [4, 8]
    assert [cell["values"] for cell in answer["cells"]] == [{"area_ch_0": [4.5, None]}, {"area_ch_0": [8.5, 8.5]}]
    assert "cell 5" in error_of(get(client, "traces", many, fov=0, cells="4,5"), 404, "FILE_NOT_FOUND")
    assert "area_ch_0" in error_of(get(client, "traces", many, fov=0, feature="girth"), 404, "FILE_NOT_FOUND")


def test_a_fov_without_cells_has_no_traces(client: httpx.Client, tmp_path: Path) -> None:
    out = process_film(tmp_path, film(1, 2), min_area=60_000)
    answer = get(client, "traces", out, fov=0).json()
    assert (answer["total_cells"], answer["n_pages"], answer["cells"]) == (0, 0, [])
    assert len(answer["columns"]) == 2
    assert pixels(get(client, "image", out, fov=0, frame=0, kind="phase", outlines=True, numbers=True)).shape == (
        64,
        64,
        3,
    )


@pytest.mark.parametrize(
    "file", ["fov_000/film_fov_000_traces.csv", "processing_results.yaml", "fov_002/manifest.json"]
)
def test_tables_can_be_downloaded(client: httpx.Client, out: Path, file: str) -> None:
    for name in (file, str(out / file)):
        answer = get(client, "download", out, file=name)
        assert answer.status_code == 200
        assert answer.content == (out / file).read_bytes()
        assert answer.headers["content-disposition"] == f'attachment; filename="{Path(file).name}"'


def test_only_our_own_tables_can_be_downloaded(client: httpx.Client, out: Path) -> None:
    (out / "secret.txt").write_text("x")
    (out / "fov_000_linked_traces.csv").symlink_to(out.parent / "film.nd2")
    (out.parent / "other_traces.csv").write_text("x")
    for file in ("secret.txt", "fov_000/film_fov_000_pc_ch_0.npy", "../other_traces.csv", "fov_000_linked_traces.csv"):
        assert "file: " in error_of(get(client, "download", out, file=file), 403, "FORBIDDEN")
    assert "does not exist" in error_of(get(client, "download", out, file="no_traces.csv"), 404, "FILE_NOT_FOUND")
    assert "folder" in error_of(get(client, "download", out, file="fov_000"), 400, "INVALID_PARAMETERS")
    (out / "fov_000_linked_traces.csv").unlink()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({**IMAGE, "fov": 1}, "FOV 1 is not done"),
        ({**IMAGE, "frame": 4}, "frame: the stacks of FOV 0 have 4 frames, 0 to 3 (got 4)"),
        ({**IMAGE, "channel": 1}, "no phase channel 1; it has 0"),
        ({**IMAGE, "kind": "corrected", "channel": 7}, "no fluorescence channel 7; it has 1"),
        ({**LABEL, "frame": 99}, "frame: the stacks of FOV 0 have 4 frames"),
        ({"what": "cell", "fov": 0, "frame": 4, "x": 0, "y": 0}, "frame: "),
        ({"what": "cell", "fov": 0, "frame": 0, "x": 64, "y": 0}, "x: the images of FOV 0 have 64 columns, 0 to 63"),
        ({"what": "cell", "fov": 0, "frame": 0, "x": 0, "y": 64.5}, "y: the images of FOV 0 have 64 rows"),
        ({"what": "traces", "fov": 9}, "FOV 9 is not done"),
        ({"what": "picture", "fov": 0, "name": "../manifest.json"}, "no picture"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(client: httpx.Client, out: Path, asked: dict[str, Any], told: str) -> None:
    assert told in error_of(get(client, out=out, **asked), 404, "FILE_NOT_FOUND")


def test_what_was_not_kept_is_told_with_what_would_keep_it(client: httpx.Client, bare: Path) -> None:
    asked = {"fov": 0, "frame": 0}
    for what, more, keep in (
        ("image", {"kind": "phase"}, "keep set to all (it was none)"),
        ("labels", {}, "keep set to all or labels (it was none)"),
    ):
        assert keep in error_of(get(client, what, bare, **asked, **more), 404, "FILE_NOT_FOUND")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({**IMAGE, "kind": "infrared"}, "kind"),
        ({**IMAGE, "frame": -1}, "frame"),
        ({**IMAGE, "fov": "two"}, "fov"),
        ({**IMAGE, "low": 50, "high": 50}, "low"),
        ({**IMAGE, "high": 100.5}, "high"),
        ({**IMAGE, "low": "nan"}, "low"),
        ({**IMAGE, "minimum": 9, "maximum": 9}, "minimum"),
        ({**IMAGE, "maximum": "inf"}, "maximum"),
        ({**IMAGE, "x0": 64}, "x0"),
        ({**IMAGE, "y0": 9, "y1": 9}, "y0"),
        ({**IMAGE, "max_size": 0}, "max_size"),
        ({**IMAGE, "format": "bmp"}, "format"),
        ({"what": "cell", "fov": 0, "frame": 0, "x": "nan", "y": 0}, "x"),
        ({"what": "traces", "fov": 0, "page": 0}, "page"),
        ({"what": "traces", "fov": 0, "page_size": 201}, "page_size"),
        ({"what": "traces", "fov": 0, "cells": "1;2"}, "cells"),
        ({"what": "download", "file": "a\0b"}, "file"),
    ],
)
def test_wrong_requests_are_refused(client: httpx.Client, out: Path, asked: dict[str, Any], field: str) -> None:
    assert error_of(get(client, out=out, **asked), 400, "INVALID_PARAMETERS").startswith(field)


def test_a_damaged_stack_is_told(client: httpx.Client, out: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(out, damaged)
    path = damaged / "fov_000" / "film_fov_000_pc_ch_0.npy"
    path.write_bytes(b"\0" * path.stat().st_size)
    text = error_of(get(client, "image", damaged, fov=0, frame=0, kind="phase"), 400, "INVALID_PARAMETERS")
    assert "process FOV 0 again" in text
    path.write_bytes(b"")
    assert "not done" in error_of(get(client, "image", damaged, fov=0, frame=0, kind="phase"), 404, "FILE_NOT_FOUND")
    manifest = damaged / "fov_002" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "parameters": {}}))
    assert get(client, "folder", damaged).json()["fovs"] == []


def test_nothing_outside_the_allowed_folders_is_shown(out: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "fov_000").symlink_to(out / "fov_000")
    with api(tmp_path / "home", allowed_paths=(allowed,)) as client:
        for folder in (out, allowed):
            for what, query in (("image", IMAGE), ("labels", LABEL), ("traces", {"fov": 0}), ("folder", {})):
                asked = {name: value for name, value in query.items() if name != "what"}
                error_of(get(client, what, folder, **asked), 403, "FORBIDDEN")


_ASKED = """
import json, sys
from pathlib import Path
from api.main import create_app
from api.settings import Settings
from tests.api_server import ask
from tests.nobody import become_nobody
app = create_app(Settings(home=Path(sys.argv[1])))
asked = json.loads(sys.argv[2])
before = [ask(app, method, path, **more).status_code for method, path, more in asked]
become_nobody()
answers = [ask(app, method, path, **more) for method, path, more in asked]
print(json.dumps([before, [[answer.status_code, answer.json()] for answer in answers]]))
"""


def test_what_the_server_may_not_read_is_told_as_such(out: Path) -> None:
    """By whatever route it is come upon; as root, who may read everything, the routes answer."""
    with TemporaryDirectory() as base:
        home, closed, there = Path(base) / "home", Path(base) / "closed", Path(base) / "there"
        for folder in (closed, there):
            shutil.copytree(out, folder)
        picture, table = "film_fov_000_qc_traces.png", "fov_000/film_fov_000_traces.csv"
        for path, mode in {
            Path(base): 0o755, closed: 0o700, there / "fov_000" / picture: 0, there / table: 0
        }.items():  # fmt: skip
            path.chmod(mode)
        home.mkdir()
        home.chmod(0o777)
        requests = [
            ("GET", f"{BASE}/visualization/image?output_dir={closed}&fov=0&frame=0&kind=phase", {}),
            ("GET", f"{BASE}/visualization/picture?output_dir={there}&fov=0&name={picture}", {}),
            ("GET", f"{BASE}/visualization/download?output_dir={there}&file={table}", {}),
            (
                "POST",
                f"{BASE}/processing/samples/save",
                {"json": {"file_path": f"{closed}/s.yaml", "samples": [{"name": "a", "fovs": "0"}]}},
            ),
        ]
        before, answers = json.loads(printed_by(_ASKED, home, json.dumps(requests)))
    assert before == [200] * len(requests)
    for status, body in answers:
        assert (status, body["error_code"]) == (403, "FORBIDDEN"), body
        assert "may not be read by the server" in body["error"]


def test_clients_of_pyama_get_frames_as_numbers(client: httpx.Client, out: Path) -> None:
    keys = ["pc", "1", "seg", "seg_labeled"]
    asked = {"output_dir": str(out), "fov_id": 2, "channels": keys, "data_types": ["image", "seg"]}
    answer = client.post(f"{BASE}/visualization/init", json=asked).json()
    assert (answer["success"], answer["fov_id"], answer["error"]) == (True, 2, None)
    assert answer["traces_csv"] == str(out / "fov_002" / "film_fov_002_traces.csv")
    assert [channel["channel"] for channel in answer["channels"]] == keys
    for channel in answer["channels"]:
        assert (channel["dtype"], channel["shape"], channel["n_frames"]) == ("uint8", [N_FRAMES, 64, 64], N_FRAMES)
        wanted = {"cached_path": channel["path"], "channel": channel["channel"]}
        one = client.post(f"{BASE}/visualization/frame", json={**wanted, "frame": 2}).json()
        some = client.post(f"{BASE}/visualization/frame", json={**wanted, "frame_start": 1, "frame_end": 2}).json()
        assert (one["success"], one["channel"], len(some["frames"])) == (True, channel["channel"], 2)
        assert some["frames"][1] == one["frames"][0]
        source = np.load(channel["path"])[2]
        shades = np.array(one["frames"][0])
        assert shades.shape == source.shape
        if channel["channel"].startswith("seg"):
            assert ((shades > 0) == (source > 0)).all()
        else:
            assert np.corrcoef(shades.ravel(), source.ravel())[0, 1] > 0.9


def test_clients_of_pyama_are_told_what_is_wrong(client: httpx.Client, out: Path, bare: Path) -> None:
    def init(**changes: Any) -> httpx.Response:
        asked = {"output_dir": str(out), "fov_id": 0, "channels": ["pc"], **changes}
        return client.post(f"{BASE}/visualization/init", json=asked)

    def frame(**changes: Any) -> httpx.Response:
        path = str(out / "fov_000" / "film_fov_000_pc_ch_0.npy")
        return client.post(f"{BASE}/visualization/frame", json={"cached_path": path, "channel": "pc", **changes})

    assert "FOV 1" in error_of(init(fov_id=1), 404, "FILE_NOT_FOUND")
    assert "keep" in error_of(init(output_dir=str(bare)), 404, "FILE_NOT_FOUND")
    assert "9" in error_of(init(channels=["9"]), 404, "FILE_NOT_FOUND")
    assert "known" in error_of(init(channels=["dapi"]), 400, "INVALID_PARAMETERS")
    assert "data_types" in error_of(init(data_types=["seg"]), 400, "INVALID_PARAMETERS")
    assert "frame" in error_of(frame(), 400, "INVALID_PARAMETERS")
    assert "frame_end" in error_of(frame(frame_start=2, frame_end=1), 400, "INVALID_PARAMETERS")
    assert "0 to 3" in error_of(frame(frame=4), 404, "FILE_NOT_FOUND")
    assert "(got 1234567)" in error_of(frame(frame=1234567), 404, "FILE_NOT_FOUND")
    assert "at most" in error_of(frame(frame=10**400), 400, "INVALID_PARAMETERS")
    assert "is in" in error_of(frame(frame=0, channel="1"), 400, "INVALID_PARAMETERS")
    error_of(frame(frame=0, cached_path=str(out / "processing_results.yaml")), 404, "FILE_NOT_FOUND")
