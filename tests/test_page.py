"""The page without a browser: its files, their headers, and their size."""

import re
import tomllib

import pytest
from fastapi import FastAPI

from api.main import create_app
from api.page_files import FOLDER
from api.security import new_api_key, parse_api_key
from api.settings import Settings
from tests.api_server import ask, error_of
from tests.engines import ROOT

MOST_SCRIPT_BYTES = 300_000
SCRIPTS = sorted(FOLDER.rglob("*.js"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    _, entry = new_api_key("ada", "operator")
    return create_app(Settings(home=tmp_path_factory.mktemp("home"), api_keys=(parse_api_key(entry),)))


def test_the_page_is_given_to_anybody_and_what_it_shows_is_not(app: FastAPI) -> None:
    response = ask(app, "GET", "/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    error_of(ask(app, "GET", "/api/v1/jobs"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("path", ["/", "/page/js/app.js", "/page/style.css"])
def test_a_browser_is_told_to_run_only_the_scripts_of_this_host(app: FastAPI, path: str) -> None:
    headers = ask(app, "GET", path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"


def test_all_that_the_page_names_is_there(app: FastAPI) -> None:
    page = ask(app, "GET", "/").text
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', page)
    assert len(named) >= 4
    for path in named:
        assert ask(app, "GET", f"/{path}").status_code == 200
    for script in SCRIPTS:
        for module in re.findall(r'(?:from|import\()\s*"(\./[^"]+)"', script.read_text()):
            assert (script.parent / module).is_file(), f"{script.name} imports {module}"


def test_nothing_in_the_page_is_inline(app: FastAPI) -> None:
    page = ask(app, "GET", "/").text
    assert re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", page) is None
    for script in SCRIPTS:
        assert "innerHTML" not in script.read_text() or script.parent.name == "vendor"


def test_the_scripts_are_small() -> None:
    assert sum(script.stat().st_size for script in SCRIPTS) < MOST_SCRIPT_BYTES


def test_what_is_not_ours_comes_with_its_version_and_licence() -> None:
    (library,) = (FOLDER / "vendor").glob("*.js")
    assert re.search(r"v\d+\.\d+\.\d+", library.read_text()[:200])
    assert "MIT License" in (FOLDER / "vendor" / "uPlot.LICENSE").read_text()


def test_other_files_are_not_given(app: FastAPI) -> None:
    for path in ("/page/", "/page/nothing.js", "/page/%2e%2e/main.py", "/page/js"):
        error_of(ask(app, "GET", path), 404, "NOT_FOUND")


def test_a_file_that_has_not_changed_is_not_sent_again(app: FastAPI) -> None:
    first = ask(app, "GET", "/page/style.css")
    assert first.headers["cache-control"] == "no-cache"
    again = ask(app, "GET", "/page/style.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" in again.headers


def test_the_package_brings_the_page() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["api"]
    brought = {found for pattern in patterns for found in FOLDER.parent.glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= brought
