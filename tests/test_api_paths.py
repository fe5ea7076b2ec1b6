"""Which paths the API lets a request name."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from fastapi import FastAPI

from api.main import create_app
from api.settings import Settings
from tests.api_server import BASE, api, ask, error_of

LIST = f"{BASE}/processing/list-directory"
CHANNELS = {"phase": {"channel": 0}, "fluorescence": []}
REQUESTS = [
    ("load-metadata", "file_path", {}),
    ("list-directory", "directory_path", {}),
    ("search-files", "search_path", {}),
    ("file-info", "file_path", {}),
    ("samples/load", "file_path", {}),
    ("samples/save", "file_path", {"samples": [{"name": "a", "fovs": "0"}]}),
    ("workflow/start", "microscopy_path", {"output_dir": "{data}/out", "channels": CHANNELS}),
    ("workflow/start", "output_dir", {"microscopy_path": "{data}/film.nd2", "channels": CHANNELS}),
]
"""Every request that names a path, its field, and what else it needs."""


def make_folders(base: Path) -> Path:
    """Make an allowed folder, beside one that is not allowed and one whose name begins alike."""
    for name in ("data", "secret", "database"):
        (base / name).mkdir()
        (base / name / "a.yaml").write_text("samples: [{name: a, fovs: 0}]")
    return base / "data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folders(tmp_path)


@pytest.fixture
def client(data: Path) -> Iterator[httpx.Client]:
    with api(data.parent / "home", allowed_paths=[data]) as client:
        yield client


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A client, and an allowed folder that holds links that lead out of it."""
    data = make_folders(tmp_path_factory.mktemp("fenced"))
    (data / "link").symlink_to(data.parent / "secret")
    (data / "file.yaml").symlink_to(data.parent / "secret" / "a.yaml")
    (data / "circle").symlink_to(data / "circle")
    with api(data.parent / "home", allowed_paths=[data]) as client:
        yield client, data


@pytest.fixture
def unrestricted(tmp_path: Path) -> FastAPI:
    return create_app(Settings(home=tmp_path))


def listing(app: FastAPI, folder: Path, **request: Any) -> httpx.Response:
    return ask(app, "POST", LIST, json={"directory_path": str(folder)}, **request)


@pytest.mark.parametrize(("route", "field", "more"), REQUESTS)
@pytest.mark.parametrize(
    "path",
    [
        "{data}/../secret/a.yaml", "{data}/../secret", "{data}/..", "/", "/etc/passwd", "{base}/database/a.yaml",
        "{base}/secret/none.yaml", "{data}/link/a.yaml", "{data}/file.yaml", "{data}/circle", "{data}/link/../a.yaml",
        "//etc/passwd", "/proc/self/root/etc/passwd", "/proc/self/cwd/../../etc/passwd",
    ],
)  # fmt: skip
def test_no_request_leaves_the_allowed_folders(
    fenced: tuple[httpx.Client, Path], route: str, field: str, more: dict[str, Any], path: str
) -> None:
    client, data = fenced
    others = {name: value.format(data=data) if isinstance(value, str) else value for name, value in more.items()}
    body = {field: path.format(data=data, base=data.parent), **others}
    text = error_of(client.post(f"{BASE}/processing/{route}", json=body), 403, "FORBIDDEN")
    assert field in text
    assert "PYAMA_ALLOWED_PATHS" in text


def test_inside_of_them_all_is_well(client: httpx.Client, data: Path) -> None:
    for folder in (data, data / "sub" / "..", Path(f"{data}//.")):
        (data / "sub").mkdir(exist_ok=True)
        answer = client.post(LIST, json={"directory_path": str(folder)}).json()
        assert [item["name"] for item in answer["items"]] == ["sub", "a.yaml"]


def test_an_allowed_folder_may_itself_be_a_link(data: Path) -> None:
    (data.parent / "alias").symlink_to(data)
    with api(data.parent / "home", allowed_paths=[data.parent / "alias"]) as client:
        for folder in (data, data.parent / "alias"):
            assert client.post(LIST, json={"directory_path": str(folder)}).status_code == 200


def test_links_that_lead_out_are_not_listed(client: httpx.Client, data: Path) -> None:
    (data / "out").symlink_to(data.parent / "secret")
    (data / "in").symlink_to(data / "a.yaml")
    answer = client.post(LIST, json={"directory_path": str(data)}).json()
    assert [item["name"] for item in answer["items"]] == ["a.yaml", "in"]


def test_links_that_lead_out_are_not_found(client: httpx.Client, data: Path) -> None:
    (data / "out.yaml").symlink_to(data.parent / "secret" / "a.yaml")
    (data / "in.yaml").symlink_to(data / "a.yaml")
    answer = client.post(f"{BASE}/processing/search-files", json={"search_path": str(data)}).json()
    assert [file["name"] for file in answer["files"]] == ["a.yaml", "in.yaml"]


def test_samples_are_not_saved_through_a_link_that_leads_out(client: httpx.Client, data: Path) -> None:
    (data / "s.yaml").symlink_to(data.parent / "secret" / "new.yaml")
    body = {"file_path": str(data / "s.yaml"), "samples": [{"name": "a", "fovs": "0"}]}
    error_of(client.post(f"{BASE}/processing/samples/save", json=body), 403, "FORBIDDEN")
    assert not (data.parent / "secret" / "new.yaml").exists()


@pytest.mark.parametrize("pattern", ["{fov}.tif", "sub/{fov}/{time}.tif", "link/{fov}.tif", "../secret/{fov}.tif"])
def test_the_files_of_a_series_do_not_lead_out(client: httpx.Client, data: Path, pattern: str) -> None:
    tifffile.imwrite(data.parent / "secret" / "1.tif", np.zeros((8, 8), np.uint16))
    (data / "link").symlink_to(data.parent / "secret")
    (data / "1.tif").symlink_to(data.parent / "secret" / "1.tif")
    (data / "sub").mkdir()
    (data / "sub" / "1").symlink_to(data.parent / "secret")
    for route in ("load-metadata", "file-info"):
        body = {"file_path": f"{data}/{pattern}"}
        response = client.post(f"{BASE}/processing/{route}", json=body)
        assert response.json()["success"] is False
        assert response.status_code == (403 if pattern.startswith(("link", "..")) else 404 if "file" in route else 400)


def test_a_file_that_may_not_be_told_to_exist(client: httpx.Client, data: Path) -> None:
    """What is outside is refused in the same words, whether it is there or not."""
    texts = {
        error_of(client.post(LIST, json={"directory_path": str(path)}), 403, "FORBIDDEN").replace(path.name, "X")
        for path in (data.parent / "secret", data.parent / "nobody")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused(client: httpx.Client, data: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(data / "special")
    else:
        os.mknod(data / "special", 0o140600)
    response = client.post(f"{BASE}/processing/file-info", json={"file_path": str(data / "special")})
    assert kind in error_of(response, 400, "INVALID_PARAMETERS").lower()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_without_allowed_folders_this_host_may_name_any_path(unrestricted: FastAPI, data: Path, address: str) -> None:
    assert listing(unrestricted, data, client_address=address).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.5", "192.168.1.7", "::ffff:10.0.0.5", "2001:db8::1", "0.0.0.0", "unknown"])
def test_without_allowed_folders_other_hosts_may_name_none(unrestricted: FastAPI, data: Path, address: str) -> None:
    text = error_of(listing(unrestricted, data, client_address=address), 403, "FORBIDDEN")
    assert "PYAMA_ALLOWED_PATHS" in text


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP", "x-forwarded-for"],
)
def test_what_a_proxy_passes_on_does_not_come_from_this_host(unrestricted: FastAPI, data: Path, header: str) -> None:
    error_of(listing(unrestricted, data, headers={header: "127.0.0.1"}), 403, "FORBIDDEN")


def test_uvicorn_does_not_hide_the_proxy(tmp_path: Path) -> None:
    with api(tmp_path / "home") as client:
        body = {"directory_path": str(tmp_path)}
        assert client.post(LIST, json=body).status_code == 200
        for value in ("127.0.0.1", "10.0.0.5", "10.0.0.5, 127.0.0.1"):
            error_of(client.post(LIST, json=body, headers={"X-Forwarded-For": value}), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("http://127.0.0.1:8000", 200), ("http://[::1]", 200),
     ("http://evil.example", 403), ("null", 403), ("http://localhost.evil.example", 403), ("http://[", 403)],
)  # fmt: skip
def test_a_foreign_web_page_does_not_speak_for_this_host(
    unrestricted: FastAPI, data: Path, origin: str, status: int
) -> None:
    assert listing(unrestricted, data, headers={"Origin": origin}).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:8000", 200), ("127.1.2.3", 200), ("[::1]:8000", 200),
     (socket.gethostname(), 200), ("pyama.lab.example:8000", 200), ("evil.example", 403), ("evil.example:8000", 403),
     ("localhost.evil.example", 403), ("10.0.0.5:8000", 403), ("", 403), ("[", 403)],
)  # fmt: skip
def test_a_name_that_was_made_to_lead_here_does_not_speak_for_this_host(data: Path, host: str, status: int) -> None:
    app = create_app(Settings(home=data, public_url="https://pyama.lab.example/pyama"))
    response = ask(app, "GET", f"{BASE}/visualization/folder?output_dir={data}", headers={"Host": host})
    assert response.status_code == status
    assert listing(app, data, headers={"Host": host}).status_code == status


def test_a_configured_web_page_does(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, cors_origins=("https://lab.example",)))
    assert listing(app, tmp_path, headers={"Origin": "https://lab.example"}).status_code == 200


def test_with_allowed_folders_other_hosts_may_name_paths_there(data: Path) -> None:
    app = create_app(Settings(home=data, allowed_paths=(data,)))
    assert listing(app, data, client_address="10.0.0.5").status_code == 200


def test_recent_files_show_only_what_may_be_named(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    answer = ask(app, "GET", f"{BASE}/processing/recent-files", client_address="10.0.0.5")
    assert answer.json()["recent_files"] == []
