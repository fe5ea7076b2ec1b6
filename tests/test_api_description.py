"""The OpenAPI description and the interactive documentation."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from api.main import create_app
from api.settings import Settings
from tests.api_server import ask, error_of

METHODS = {"get", "post", "delete", "put", "patch"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def description(app: FastAPI) -> dict[str, Any]:
    answer: dict[str, Any] = ask(app, "GET", "/openapi.json").json()
    return answer


def operations(description: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


class Links(HTMLParser):
    """What a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img"}:
            self.found += [value for name, value in attrs if name in {"src", "href"} and value]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_interactive_documentation_loads_everything_from_this_host(app: FastAPI, path: str) -> None:
    response = ask(app, "GET", path)
    assert response.status_code == 200
    assert "/openapi.json" in response.text
    links = Links(response.text).found
    assert any(link.endswith(".js") for link in links)
    for link in links:
        assert link.startswith("/"), link
        loaded = ask(app, "GET", link)
        assert loaded.status_code == 200, link
        assert len(loaded.content) > 1000


def test_interactive_documentation_gives_nothing_but_its_scripts(app: FastAPI) -> None:
    for path in ("/docs-assets/", "/docs-assets/nothing.js", "/docs-assets/..%2f__init__.py"):
        error_of(ask(app, "GET", path), 404, "NOT_FOUND")


def test_every_route_documents_its_errors_with_examples(description: dict[str, Any]) -> None:
    for name, operation in operations(description):
        assert {"400", "401", "403", "429", "500"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            if int(status) < 400 or "application/json" not in response.get("content", {}):
                continue
            content = response["content"]["application/json"]
            for example in content.get("examples", {}).values():
                assert example["value"]["success"] is False
                assert example["value"]["error"]
                assert example["value"]["error_code"] in response["description"]


def test_the_errors_of_a_file_route(description: dict[str, Any]) -> None:
    responses = description["paths"]["/api/v1/processing/load-metadata"]["post"]["responses"]
    content = responses["404"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    assert content["examples"]["FILE_NOT_FOUND"]["value"]["error_code"] == "FILE_NOT_FOUND"


def test_no_error_is_documented_that_never_comes(description: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in description["components"]["schemas"]
    for name, operation in operations(description):
        assert "422" not in operation["responses"], name


def test_keys_are_documented_as_optional(description: dict[str, Any]) -> None:
    assert description["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    assert {} in description["security"]


def test_every_route_says_what_it_does(description: dict[str, Any]) -> None:
    for name, operation in operations(description):
        assert operation.get("description"), name


def test_operations_have_names_of_their_own(description: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(description)]
    assert len(set(names)) == len(names)


def test_all_references_lead_somewhere(description: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    schemas = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert set(references(description)) <= schemas


def test_the_documented_address_is_the_base(description: dict[str, Any], tmp_path: Path) -> None:
    routes = ["load-metadata", "features", "list-directory", "search-files", "file-info", "recent-files"]
    for route in routes:
        assert f"/api/v1/processing/{route}" in description["paths"]
    assert "/api/v1/analysis/models" in description["paths"]
