"""Keys, limits, web pages of other origins, and the log."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.main import create_app
from api.rate_limit import RateLimiter, client_group
from api.security import Role, new_api_key, parse_api_key
from api.settings import Settings
from deployments.api_key import api_key
from tasks.errors import InvalidParametersError
from tests.api_server import BASE, api, ask, error_of

FEATURES = f"{BASE}/processing/features"
LIST = f"{BASE}/processing/list-directory"
SAVE = f"{BASE}/processing/samples/save"


def guarded(home: Path, **settings: Any) -> tuple[FastAPI, dict[Role, str]]:
    """Make an application that asks for keys, and the keys."""
    keys: dict[Role, str] = {}
    entries = []
    roles: tuple[Role, ...] = ("read-only", "operator")
    for role in roles:
        keys[role], entry = new_api_key(f"{role}-user", role)
        entries.append(parse_api_key(entry))
    return create_app(Settings(home=home, api_keys=tuple(entries), **settings)), keys


def test_without_keys_nobody_is_asked_for_one(tmp_path: Path) -> None:
    assert ask(create_app(Settings(home=tmp_path)), "GET", FEATURES).status_code == 200


@pytest.mark.parametrize("path", [FEATURES, "/docs", "/openapi.json", "/nowhere", "/jobs", "/healthy"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Basic abc"}, {"X-API-Key": "µ"}])
def test_with_keys_everything_asks_for_one(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    app, _ = guarded(tmp_path)
    encoded = {name: value.encode() for name, value in headers.items()}
    response = ask(app, "GET", path, headers=encoded)
    assert "X-API-Key" in error_of(response, 401, "UNAUTHORIZED")
    assert response.headers["www-authenticate"] == "Bearer"


def test_keys_of_a_file_are_asked_for_as_well(tmp_path: Path) -> None:
    key, entry = new_api_key("ann", "operator")
    file = tmp_path / "keys"
    file.write_text(entry)
    app = create_app(Settings.model_validate({"home": tmp_path, "api_keys_file": str(file)}))
    assert ask(app, "GET", FEATURES).status_code == 401
    assert ask(app, "GET", FEATURES, headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("path", ["/health", f"{BASE}/health", "/health/ready"])
def test_health_asks_for_none(tmp_path: Path, path: str) -> None:
    app, _ = guarded(tmp_path)
    assert ask(app, "GET", path).status_code != 401


@pytest.mark.parametrize("role", ["read-only", "operator"])
def test_a_key_is_taken_from_either_header(tmp_path: Path, role: Role) -> None:
    app, keys = guarded(tmp_path)
    for headers in ({"X-API-Key": keys[role]}, {"Authorization": f"Bearer {keys[role]}"}):
        assert ask(app, "GET", FEATURES, headers=headers).status_code == 200


def test_the_hash_of_a_key_is_no_key(tmp_path: Path) -> None:
    app, keys = guarded(tmp_path)
    digest = hashlib.sha256(keys["operator"].encode()).hexdigest()
    error_of(ask(app, "GET", FEATURES, headers={"X-API-Key": digest}), 401, "UNAUTHORIZED")


def test_a_read_only_key_looks_but_does_not_write(tmp_path: Path) -> None:
    app, keys = guarded(tmp_path)
    key = {"X-API-Key": keys["read-only"]}
    assert ask(app, "POST", LIST, headers=key, json={"directory_path": str(tmp_path)}).status_code == 200
    body = {"file_path": str(tmp_path / "s.yaml"), "samples": [{"name": "a", "fovs": "0"}]}
    assert "read-only" in error_of(ask(app, "POST", SAVE, headers=key, json=body), 403, "FORBIDDEN")
    assert not (tmp_path / "s.yaml").exists()


def test_an_operator_key_writes(tmp_path: Path) -> None:
    app, keys = guarded(tmp_path)
    body = {"file_path": str(tmp_path / "s.yaml"), "samples": [{"name": "a", "fovs": "0"}]}
    assert ask(app, "POST", SAVE, headers={"X-API-Key": keys["operator"]}, json=body).status_code == 200


def test_every_route_that_changes_something_asks_for_an_operator(tmp_path: Path) -> None:
    """A new POST route is closed to read-only keys until somebody says that it only reads."""
    app, _ = guarded(tmp_path)
    reading = {
        path.removeprefix(BASE)
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if method == "post" and operation.get("x-pyama-role") == "read-only"
    }
    assert reading <= {
        "/processing/load-metadata", "/processing/list-directory", "/processing/search-files", "/processing/file-info",
        "/processing/samples/load", "/analysis/load-traces", "/visualization/init", "/visualization/frame",
    }  # fmt: skip


def test_keys_are_random_and_only_their_hashes_are_kept() -> None:
    (one, entry), (other, _) = new_api_key("ann", "operator"), new_api_key("ann", "operator")
    assert one != other
    assert one not in entry
    assert parse_api_key(entry).name == "ann"


@pytest.mark.parametrize(
    "entry",
    ["", "s3cret", "ann:operator:s3cret", "ann:admin:" + "0" * 64, ":operator:" + "0" * 64, f"a:operator:{'0' * 64}:x"],
)
def test_a_key_that_is_not_hashed_is_refused_without_repeating_it(entry: str) -> None:
    with pytest.raises(ValueError, match="NAME:ROLE:SHA256") as told:
        parse_api_key(entry)
    assert not entry or entry not in str(told.value)


def test_too_many_requests(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, rate_limit=3))
    assert [ask(app, "GET", FEATURES).status_code for _ in range(3)] == [200, 200, 200]
    response = ask(app, "GET", FEATURES)
    error_of(response, 429, "RATE_LIMITED")
    assert 1 <= int(response.headers["retry-after"]) <= 20


def test_each_client_has_a_limit_of_its_own(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, rate_limit=1))
    addresses = ["10.0.0.1", "10.0.0.2", "2001:db8:1:1::1", "2001:db8:1:2::1"]
    assert [ask(app, "GET", FEATURES, client_address=a).status_code for a in addresses] == [200] * 4
    assert ask(app, "GET", FEATURES, client_address="2001:db8:1:1::2").status_code == 429


def test_health_has_no_limit(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, rate_limit=1))
    assert 429 not in [ask(app, "GET", "/health").status_code for _ in range(3)]


def test_guessing_keys_is_limited_too(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, rate_limit=2)
    statuses = [ask(app, "GET", FEATURES, headers={"X-API-Key": f"{i}"}).status_code for i in range(3)]
    assert statuses == [401, 401, 429]


def test_a_limit_fills_up_again_with_time() -> None:
    now_s = 0.0
    limiter = RateLimiter(60, clock=lambda: now_s)
    assert [limiter.wait_s("a") for _ in range(61)] == [0] * 60 + [1]
    now_s = 1.0
    assert [limiter.wait_s("a") for _ in range(2)] == [0, 1]
    now_s = 1000.0
    assert [limiter.wait_s("a") for _ in range(61)] == [0] * 60 + [1]


def test_the_memory_of_a_limit_is_bounded() -> None:
    limiter = RateLimiter(1, clock=lambda: 0.0)
    for i in range(20_000):
        limiter.wait_s(f"{i}")
    assert len(limiter._buckets) <= 10_000


@pytest.mark.parametrize(
    ("host", "group"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::7", "2001:db8::/64"), ("::ffff:10.0.0.1", "::ffff:10.0.0.1"), ("x", "x")],
)
def test_whom_a_limit_holds_for(host: str, group: str) -> None:
    assert client_group(host) == group


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(tmp_path: Path, chunked: bool) -> None:
    with api(tmp_path, max_body_bytes=10_000) as client:
        body = b'{"directory_path": "/' + b"x" * 5_000_000 + b'"}'
        content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
        response = client.post(LIST, content=content, headers={"Content-Type": "application/json"})
        assert "10000 bytes" in error_of(response, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_of_just_the_allowed_size(tmp_path: Path) -> None:
    body = b'{"directory_path": "/tmp"}'.ljust(1024)
    app = create_app(Settings(home=tmp_path, max_body_bytes=1024))
    assert ask(app, "POST", LIST, content=body, headers={"Content-Type": "application/json"}).status_code == 200


def preflight(app: FastAPI, origin: str) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    return ask(app, "OPTIONS", LIST, headers=headers)


def test_no_origin_is_allowed_unless_configured(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    error_of(preflight(app, "https://lab.example"), 405, "METHOD_NOT_ALLOWED")
    response = ask(app, "GET", FEATURES, headers={"Origin": "https://lab.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_configured_origin_may_ask(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, cors_origins=("https://lab.example",))
    response = preflight(app, "https://lab.example")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://lab.example"
    assert "access-control-allow-credentials" not in response.headers


def test_other_origins_still_may_not(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, cors_origins=("https://lab.example",)))
    response = preflight(app, "https://evil.example")
    error_of(response, 400, "INVALID_PARAMETERS")
    assert "access-control-allow-origin" not in response.headers


def test_a_web_page_can_read_what_went_wrong(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, cors_origins=("https://lab.example",))
    response = ask(app, "GET", FEATURES, headers={"Origin": "https://lab.example"})
    error_of(response, 401, "UNAUTHORIZED")
    assert response.headers["access-control-allow-origin"] == "https://lab.example"


def test_a_web_page_can_read_of_an_unexpected_error(tmp_path: Path, api_log: list[logging.LogRecord]) -> None:
    app = create_app(Settings(home=tmp_path, cors_origins=("https://lab.example",)))

    async def fail() -> None:
        raise RuntimeError

    app.add_api_route("/fail", fail)
    response = ask(app, "GET", "/fail", headers={"Origin": "https://lab.example"})
    error_of(response, 500, "INTERNAL_ERROR")
    assert response.headers["access-control-allow-origin"] == "https://lab.example"
    assert "X-Request-ID" in response.headers["access-control-expose-headers"]
    assert response.headers["X-Request-ID"] == response.json()["details"]["request_id"]
    assert "outcome=INTERNAL_ERROR" in api_log[-1].getMessage()


def test_a_preflight_is_a_line_of_the_log_too(tmp_path: Path, api_log: list[logging.LogRecord]) -> None:
    app = create_app(Settings(home=tmp_path, cors_origins=("https://lab.example",)))
    response = preflight(app, "https://lab.example")
    assert f"{response.headers['X-Request-ID']} OPTIONS" in api_log[-1].getMessage()


def test_each_request_is_a_line_of_the_log(tmp_path: Path, api_log: list[logging.LogRecord]) -> None:
    app, keys = guarded(tmp_path)
    response = ask(app, "GET", FEATURES, headers={"X-API-Key": keys["operator"]}, client_address="10.0.0.9")
    (line,) = [record.getMessage() for record in api_log]
    for part in (response.headers["X-Request-ID"], "GET", FEATURES, " 200 ", " ms ", "10.0.0.9", "operator-user"):
        assert part in line
    assert keys["operator"] not in line


def test_the_log_tells_what_went_wrong(tmp_path: Path, api_log: list[logging.LogRecord]) -> None:
    ask(create_app(Settings(home=tmp_path)), "GET", "/nowhere")
    assert "outcome=NOT_FOUND" in api_log[0].getMessage()


def test_a_path_cannot_forge_a_line_of_the_log(tmp_path: Path, api_log: list[logging.LogRecord]) -> None:
    ask(create_app(Settings(home=tmp_path)), "GET", "/x%0a2026-01-01 INFO pyama.api forged")
    assert "\n" not in api_log[0].getMessage()


def test_observers_learn_the_route_of_each_request(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    seen = []
    app.state.observers.append(lambda outcome: seen.append((outcome.method, outcome.route, outcome.status)))
    ask(app, "GET", FEATURES)
    ask(app, "GET", "/nowhere")
    assert seen == [("GET", FEATURES.removeprefix(BASE), 200), ("GET", "(none)", 404)]


def test_request_ids_differ(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    ids = {ask(app, "GET", FEATURES, headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5
    assert "mine" not in ids


def test_a_new_key_is_shown_beside_the_entry_that_the_server_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api_key("ann", "read-only")
    printed = capsys.readouterr()
    entry = parse_api_key(printed.err.split()[-1])
    app = create_app(Settings(home=tmp_path, api_keys=(entry,)))
    assert ask(app, "GET", FEATURES, headers={"X-API-Key": printed.out.strip()}).status_code == 200


def test_a_key_needs_a_name_that_fits_into_the_entry() -> None:
    with pytest.raises(InvalidParametersError, match="'a:b' cannot be the name"):
        api_key("a:b")
