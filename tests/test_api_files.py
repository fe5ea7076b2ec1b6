"""The file explorer of the API."""

import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from glob import glob
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import file_search, recent_files
from api.errors import InvalidRequestError
from api.file_search import GlobPattern
from api.routes import files
from tests.api_server import BASE, api, error_of
from tests.engines import wait_until
from tests.format_writers import film_of, write_tiff_series, write_zarr_05
from tests.recordings import random_images, write_recording

TREE = (
    "a.nd2", "B.ND2", "c.czi", "d.txt", ".hidden.nd2", "one/e.nd2", "one/two/f.czi", "one/two/three/g.nd2",
    ".cache/h.nd2", "data[1]/i.nd2", "über/zelle µ.nd2",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx.Client]:
    with api(home) as client:
        yield client


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return root


def listed(client: httpx.Client, folder: Path, **options: Any) -> list[str]:
    body = {"directory_path": str(folder), **options}
    answer = client.post(f"{BASE}/processing/list-directory", json=body).json()
    assert answer["success"], answer
    return [item["name"] for item in answer["items"]]


def search(client: httpx.Client, folder: Path, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(
        f"{BASE}/processing/search-files", json={"search_path": str(folder), **options}
    ).json()
    assert answer["success"], answer
    assert answer["total_found"] == len(answer["files"])
    return answer


def found(client: httpx.Client, folder: Path, **options: Any) -> set[str]:
    return {str(Path(file["path"]).relative_to(folder)) for file in search(client, folder, **options)["files"]}


def test_a_folder_is_listed_folders_first(client: httpx.Client, tree: Path) -> None:
    assert listed(client, tree) == ["data[1]", "one", "über", "a.nd2", "B.ND2", "c.czi", "d.txt"]


def test_browsing_begins_in_the_allowed_folders(client: httpx.Client, tree: Path, tmp_path: Path) -> None:
    told = client.get(f"{BASE}/processing/starting-folders").json()
    assert told["folders"] == [str(Path.home()), "/"]
    assert ".nd2" in told["recording_extensions"]
    with api(tmp_path, allowed_paths=(tree, tmp_path)) as restricted:
        answer = restricted.get(f"{BASE}/processing/starting-folders").json()
    assert answer["folders"] == [str(tree), str(tmp_path)]


def test_hidden_entries_are_listed_when_asked_for(client: httpx.Client, tree: Path) -> None:
    assert {".cache", ".hidden.nd2"} <= set(listed(client, tree, include_hidden=True))


@pytest.mark.parametrize("ending", [".nd2", "nd2", ".ND2"])
def test_endings_select_files_and_leave_folders(client: httpx.Client, tree: Path, ending: str) -> None:
    assert listed(client, tree, filter_extensions=[ending]) == ["data[1]", "one", "über", "a.nd2", "B.ND2"]


def test_an_item_has_the_documented_keys(client: httpx.Client, tree: Path) -> None:
    answer = client.post(f"{BASE}/processing/list-directory", json={"directory_path": str(tree)}).json()
    by_name = {item["name"]: item for item in answer["items"]}
    modified_time = by_name["a.nd2"].pop("modified_time")
    assert by_name["a.nd2"] == {
        "name": "a.nd2", "path": str(tree / "a.nd2"), "is_directory": False, "is_file": True, "size_bytes": 5,
        "extension": ".nd2",
    }  # fmt: skip
    assert float(modified_time) == pytest.approx((tree / "a.nd2").stat().st_mtime, abs=1e-3)
    assert by_name["one"]["size_bytes"] is None
    assert by_name["one"]["extension"] is None


def test_a_long_listing_says_that_there_is_more(
    client: httpx.Client, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_ITEMS", 2)
    answer = client.post(f"{BASE}/processing/list-directory", json={"directory_path": str(tree)}).json()
    assert len(answer["items"]) == 2
    assert answer["truncated"] is True


def test_a_name_that_is_no_text_is_shown_all_the_same(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"film\xff.nd2")).touch()
    assert listed(client, tmp_path) == ["film\ufffd.nd2"]


def test_devices_and_broken_links_are_left_out(client: httpx.Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert listed(client, tmp_path) == []


def test_listing_what_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    body = {"directory_path": str(tmp_path / "none")}
    error_of(client.post(f"{BASE}/processing/list-directory", json=body), 404, "FILE_NOT_FOUND")


def test_listing_a_file(client: httpx.Client, tree: Path) -> None:
    body = {"directory_path": str(tree / "a.nd2")}
    text = error_of(client.post(f"{BASE}/processing/list-directory", json=body), 400, "INVALID_PARAMETERS")
    assert "is a file, not a folder" in text


def test_the_documented_search_finds_by_braces(client: httpx.Client, tree: Path) -> None:
    assert found(
        client, tree, pattern="**/*.{nd2,czi}", extensions=[".nd2", ".czi"], max_depth=5, include_hidden=False
    ) == {
        "a.nd2", "B.ND2", "c.czi", "one/e.nd2", "one/two/f.czi", "one/two/three/g.nd2", "data[1]/i.nd2",
        "über/zelle µ.nd2",
    }  # fmt: skip


def test_without_a_pattern_all_files_are_found(client: httpx.Client, tree: Path) -> None:
    assert len(found(client, tree)) == 9


@pytest.mark.parametrize(
    ("depth", "names"),
    [(1, {"a.nd2", "B.ND2"}), (2, {"a.nd2", "B.ND2", "one/e.nd2", "data[1]/i.nd2", "über/zelle µ.nd2"})],
)
def test_max_depth_counts_levels_of_folders(client: httpx.Client, tree: Path, depth: int, names: set[str]) -> None:
    assert found(client, tree, pattern="**/*.nd2", max_depth=depth) == names


def test_hidden_files_are_found_when_asked_for(client: httpx.Client, tree: Path) -> None:
    names = found(client, tree, pattern="**/*.nd2", include_hidden=True)
    assert {".hidden.nd2", ".cache/h.nd2"} <= names


@pytest.mark.parametrize(
    "pattern", ["../*", "../../../../etc/pass*", "one/../../*", "/etc/*", "{a,../../etc/*}", "{/,}etc/*"]
)
def test_a_pattern_that_leads_out_is_refused(client: httpx.Client, tree: Path, pattern: str) -> None:
    body = {"search_path": str(tree), "pattern": pattern}
    text = error_of(client.post(f"{BASE}/processing/search-files", json=body), 400, "INVALID_PARAMETERS")
    assert "search_path" in text


@pytest.mark.parametrize("pattern", ["", "/", "x" * 300, "{a,b}" * 7, "a\0b"])
def test_a_pattern_without_sense_is_refused(client: httpx.Client, tree: Path, pattern: str) -> None:
    body = {"search_path": str(tree), "pattern": pattern}
    error_of(client.post(f"{BASE}/processing/search-files", json=body), 400, "INVALID_PARAMETERS")


@pytest.mark.parametrize("depth", [0, -1, 65, "5", 1.5, True])
def test_a_depth_without_sense_is_refused(client: httpx.Client, tree: Path, depth: object) -> None:
    body = {"search_path": str(tree), "max_depth": depth}
    text = error_of(client.post(f"{BASE}/processing/search-files", json=body), 400, "INVALID_PARAMETERS")
    assert "max_depth" in text


def test_links_to_folders_are_not_followed(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "a.nd2").touch()
    assert found(client, tmp_path) == {"sub/a.nd2"}


def test_a_search_stops_at_its_limit_of_files_and_says_so(
    client: httpx.Client, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_search, "MOST_FILES", 3)
    answer = search(client, tree)
    assert len(answer["files"]) == 3
    assert answer["truncated"] is True
    assert answer["limit_reached"] == "files"
    assert "narrow search_path" in answer["message"]


def test_a_search_stops_at_its_limit_of_entries(
    client: httpx.Client, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_search, "MOST_ENTRIES", 4)
    assert search(client, tree)["limit_reached"] == "entries"


def test_a_search_stops_at_its_limit_of_time(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_search, "LONGEST_S", 0.0)
    for i in range(100):
        (tmp_path / f"{i}").touch()
    assert search(client, tmp_path)["limit_reached"] == "time"


def test_a_search_that_is_through_says_that_too(client: httpx.Client, tree: Path) -> None:
    answer = search(client, tree)
    assert answer["truncated"] is False
    assert answer["limit_reached"] is None


PARTS = st.text("ab*?[]", min_size=1, max_size=4) | st.just("**")


@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_patterns_mean_what_they_mean_in_python(globbed: tuple[Path, list[str]], pattern: str) -> None:
    root, names = globbed
    expected = set(glob(pattern, root_dir=root, recursive=True, include_hidden=True))  # noqa: PTH207
    compiled = GlobPattern(pattern)
    for name in names:
        states = compiled.start
        for part in name.split("/"):
            states = compiled.step(states, part)
        assert compiled.is_match(states) == (name in expected), name


@pytest.fixture(scope="module")
def globbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("globbed")
    folders = ["", "a/", "b/", "ab/", "a/b/", "a/a/b/"]
    names = [f"{folder}{name}" for folder, name in itertools.product(folders, ["aa", "bb", "aab", "[a]"])]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root, names


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("{a,b}.{c,d}", "b.c", True),
        ("{a,b{1,2}}x", "b2x", True),
        ("{a,b{1,2}}x", "bx", False),
        ("{a}", "{a}", True),
        ("{a,b", "{a,b", True),
        ("x{,y}", "x", True),
        ("a}{b,c}", "a}c", True),
    ],
)
def test_braces(pattern: str, name: str, matches: bool) -> None:
    compiled = GlobPattern(pattern)
    assert compiled.is_match(compiled.step(compiled.start, name)) is matches


@given(st.text("{},ab*/", max_size=256))
def test_any_pattern_is_understood_or_refused_quickly(pattern: str) -> None:
    began_s = monotonic()
    with suppress(InvalidRequestError):
        GlobPattern(pattern)
    assert monotonic() - began_s < 2


def test_other_requests_are_answered_during_searches(client: httpx.Client, tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / f"{folder}").mkdir()
        for i in range(150):
            (tmp_path / f"{folder}" / f"{i}.tif").touch()
    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search, client, tmp_path, pattern="**/*.nd2") for _ in range(12)]
        slowest_s = 0.0
        while not all(searching.done() for searching in searches):
            began_s = monotonic()
            assert client.get(f"{BASE}/processing/features").status_code == 200
            slowest_s = max(slowest_s, monotonic() - began_s)
        assert all(not searching.result()["files"] for searching in searches)
    assert slowest_s < 1.0


def test_information_about_a_recording(client: httpx.Client, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images(n_frames=4))
    answer = client.post(f"{BASE}/processing/file-info", json={"file_path": str(path)}).json()
    assert answer["file_info"]["size_bytes"] == path.stat().st_size
    assert answer["is_microscopy_file"] is True
    assert answer["metadata_preview"]["n_frames"] == 4
    assert answer["error"] is None


def test_a_folder_that_is_a_recording_is_found_and_not_looked_into(client: httpx.Client, tmp_path: Path) -> None:
    path = write_zarr_05(tmp_path, film_of(random_images()))
    write_tiff_series(tmp_path, film_of(random_images(n_frames=1, n_channels=1)))
    assert found(client, tmp_path) == {"film.ome.zarr", "film.series.yaml", "img_1_000_x_0.tif"}
    for extensions in ([".zarr"], ["OME.ZARR"]):
        assert found(client, tmp_path, extensions=extensions) == {"film.ome.zarr"}
    assert found(client, tmp_path, pattern="*.{zarr,yaml}") == {"film.ome.zarr", "film.series.yaml"}
    assert found(client, tmp_path, extensions=[".series.yaml"]) == {"film.series.yaml"}
    body = {"directory_path": str(tmp_path), "filter_extensions": [".tif"]}
    items = client.post(f"{BASE}/processing/list-directory", json=body).json()["items"]
    told = [(item["name"], item["is_directory"], item["extension"], item["size_bytes"]) for item in items]
    size = (tmp_path / "img_1_000_x_0.tif").stat().st_size
    assert told == [(path.name, True, ".zarr", None), ("img_1_000_x_0.tif", False, ".tif", size)]


def test_information_about_a_broken_recording(client: httpx.Client, tree: Path) -> None:
    answer = client.post(f"{BASE}/processing/file-info", json={"file_path": str(tree / "a.nd2")}).json()
    assert answer["is_microscopy_file"] is True
    assert answer["metadata_preview"] is None
    assert "a.nd2" in answer["preview_error"]


def test_information_about_other_files_and_folders(client: httpx.Client, tree: Path) -> None:
    for name, is_directory in (("d.txt", False), ("one", True)):
        answer = client.post(f"{BASE}/processing/file-info", json={"file_path": str(tree / name)}).json()
        assert answer["file_info"]["is_directory"] is is_directory
        assert answer["is_microscopy_file"] is False
        assert answer["metadata_preview"] is None


def test_information_about_what_is_not_there(client: httpx.Client, tree: Path) -> None:
    response = client.post(f"{BASE}/processing/file-info", json={"file_path": str(tree / "none")})
    error_of(response, 404, "FILE_NOT_FOUND")


def recent(client: httpx.Client, **query: Any) -> list[str]:
    answer = client.get(f"{BASE}/processing/recent-files", params=query).json()
    assert answer["success"], answer
    return [item["name"] for item in answer["recent_files"]]


def use(client: httpx.Client, path: Path) -> None:
    assert client.post(f"{BASE}/processing/load-metadata", json={"file_path": str(path)}).status_code == 200


def test_recent_files_newest_first_each_once(tmp_path: Path) -> None:
    first, second = (write_recording(tmp_path / f"{name}.nd2", random_images()) for name in ("first", "second"))
    with api(tmp_path / "home") as client:
        assert recent(client) == []
        for path in (first, second, first):
            use(client, path)
        assert recent(client) == ["first.nd2", "second.nd2"]
        assert recent(client, limit=1, extensions=".nd2,.czi") == ["first.nd2"]
        assert recent(client, extensions=".czi") == []
        first.unlink()
        assert recent(client) == ["second.nd2"]


def test_recent_files_are_shared_by_all_processes(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images())
    with api(tmp_path / "home") as one, api(tmp_path / "home") as other:
        use(one, path)
        assert recent(other) == ["film.nd2"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 201}, {"limit": "x"}])
def test_a_limit_without_sense_is_refused(client: httpx.Client, query: dict[str, Any]) -> None:
    error_of(client.get(f"{BASE}/processing/recent-files", params=query), 400, "INVALID_PARAMETERS")


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: recent_files.remember(tmp_path, Path(f"/data/{i}.nd2")), range(100)))
    assert {file.path for file in recent_files.recent_files(tmp_path)} == {f"/data/{i}.nd2" for i in range(100)}


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    recent_files.remember(tmp_path, Path("/data/a.nd2"))
    with (tmp_path / recent_files.FILE_NAME).open("ab") as file:
        file.write(b'{"path": "/data/tor')
    recent_files.remember(tmp_path, Path("/data/b.nd2"))
    assert [file.path for file in recent_files.recent_files(tmp_path)] == ["/data/b.nd2", "/data/a.nd2"]


def test_the_notes_do_not_grow_for_ever(tmp_path: Path) -> None:
    for i in range(150):
        recent_files.remember(tmp_path, Path(f"/data/{i}{'x' * 4000}.nd2"))
        assert (tmp_path / recent_files.FILE_NAME).stat().st_size < 3e5
    newest = [file.path.partition("x")[0] for file in recent_files.recent_files(tmp_path)]
    assert len(newest) > 20
    assert newest == [f"/data/{i}" for i in range(149, 149 - len(newest), -1)]


def test_a_home_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    path = write_recording(tmp_path / "film.nd2", random_images())
    with api(tmp_path / "home") as client:
        use(client, path)
        assert recent(client) == []


def test_a_wait_for_the_disk_stops_no_other_request(client: httpx.Client, home: Path, tmp_path: Path) -> None:
    use(client, write_recording(tmp_path / "film.nd2", random_images()))
    with (home / recent_files.FILE_NAME).open("rb") as notes, ThreadPoolExecutor(1) as pool:
        fcntl.flock(notes, fcntl.LOCK_EX)
        waiting = pool.submit(recent, client)
        began_s = monotonic()
        for _ in range(20):
            assert client.get(f"{BASE}/processing/features").status_code == 200
        assert monotonic() - began_s < 5
        assert not waiting.done()
        fcntl.flock(notes, fcntl.LOCK_UN)
        wait_until(waiting.done, "the answer comes when the disk does", 10)
        assert "film.nd2" in waiting.result()


def test_notes_are_lines_of_json(tmp_path: Path) -> None:
    recent_files.remember(tmp_path, Path("/data/zeile\n.nd2"))
    lines = [line for line in (tmp_path / recent_files.FILE_NAME).read_text().splitlines() if line]
    assert [json.loads(line)["path"] for line in lines] == ["/data/zeile\n.nd2"]
