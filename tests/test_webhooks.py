"""Addresses of webhooks: how they are read, and which of them a job may name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidRequestError
from api.webhooks import is_allowed, normalize_allowed, normalize_webhook, receiver_id, refuse_unlisted, shown
from tests.api_server import BASE, api, error_of
from tests.stack import CHANNELS
from tests.test_api_fitting import body
from tests.trace_tables import write_maturation

SECRET = "a secret of the tests alone"


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("https://hooks.example.org", "https://hooks.example.org:443/"),
        ("HTTP://Hooks.Example.org:80/a?b=%2F", "http://hooks.example.org:80/a?b=%2F"),
        ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ("http://10.0.0.7:9000/Team/A/", "http://10.0.0.7:9000/Team/A/"),
    ],
)
def test_an_address_is_written_in_one_way(text: str, normalized: str) -> None:
    assert normalize_webhook(text) == normalized
    assert normalize_webhook(normalized) == normalized


@pytest.mark.parametrize(
    "text",
    [
        "", "hooks.example.org", "//hooks.example.org/a", "ftp://hooks.example.org/", "file:///etc/passwd", "https:///a",
        "https://user@hooks.example.org/", "https://user:word@hooks.example.org/", "https://a@b@c/", "https://@host/",
        "https://hooks.example.org\\@evil.example/", "https://hooks.example.org#@evil.example/", "https://ho st/",
        "https://hooks.example.org/\n", "https://hööks.example.org/", "https://hooks.example.org:0/",
        "https://hooks.example.org:99999/", "https://hooks.example.org:x/", "https://hooks.example.org./",
        "https://hooks.example.org/a/../b", "https://hooks.example.org/a/..;/b", "https://hooks.example.org/a/%C0%AE/b",
        "https://hooks.example.org/a/%2e%2e/b", "https://hooks.example.org/a%2f..%2fb",
        "https://hooks.example.org/a/..%5cb", "https://hooks.example.org/%252e%252e/b", "https://hooks.example.org/.",
        "https://[::1/", "https://%31%32%37.0.0.1/", "https://h/" + "a" * 2000,
    ],
)  # fmt: skip
def test_an_unusual_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        normalize_webhook(text)


ALLOWED = tuple(map(normalize_allowed, ["https://hooks.example.org/pyama", "http://10.0.0.7:9000"]))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("https://hooks.example.org/pyama", True),
        ("https://HOOKS.example.org:443/pyama/team?token=1", True),
        ("http://10.0.0.7:9000/any/where", True),
        ("https://hooks.example.org/pyama2", False),
        ("https://hooks.example.org/", False),
        ("https://hooks.example.org/Pyama", False),
        ("http://hooks.example.org/pyama", False),
        ("https://hooks.example.org:8443/pyama", False),
        ("https://hooks.example.org.evil.example/pyama", False),
        ("http://10.0.0.7:9001/a", False),
        ("http://10.0.0.7/any", False),
        ("http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_what_lies_below_an_entry_is_allowed(text: str, *, allowed: bool) -> None:
    assert is_allowed(normalize_webhook(text), ALLOWED) is allowed


@given(st.text(alphabet="htps:/.@#?%[]\\ae0125fx", max_size=40))
def test_whatever_is_allowed_leads_to_the_host_of_an_entry(text: str) -> None:
    try:
        address = normalize_webhook(f"https://hooks.example.org/pyama{text}")
    except ValueError:
        return
    if is_allowed(address, ALLOWED):
        assert address.startswith(("https://hooks.example.org:443/pyama/", "https://hooks.example.org:443/pyama?")) or (
            address == "https://hooks.example.org:443/pyama"
        )


def test_a_refusal_names_field_value_and_remedy() -> None:
    refuse_unlisted(None, ())
    with pytest.raises(InvalidRequestError, match=r"webhook_url: http://x:80/… is not among .* PYAMA_ALLOWED_WEBHOOKS"):
        refuse_unlisted("http://x:80/", ALLOWED)


def test_the_log_is_told_no_secrets() -> None:
    address = normalize_webhook("https://hooks.example.org/T0/secret?token=1")
    assert shown(address) == "https://hooks.example.org:443/…"
    assert "secret" not in receiver_id(address)


@pytest.mark.parametrize(
    "address", ["https://ada:s3cret@hooks.example.org/", "https://hooks.example.org/s3cret", "s3cret", "s3cret" * 500]
)
@pytest.mark.parametrize("more", [{}, {"model_params": {"speed": 1}}, {"colour": 1}])
def test_a_refusal_repeats_no_secrets(tmp_path: Path, address: str, more: dict[str, Any]) -> None:
    asked = {"webhook_url": address, **body(write_maturation(tmp_path / "traces.csv", 2)), **more}
    with api(tmp_path / "home", webhook_secret=SECRET, allowed_webhooks="https://hooks.example.org/pyama") as client:
        response = client.post(f"{BASE}/analysis/fitting/start", json=asked)
    error_of(response, 400, "INVALID_PARAMETERS")
    assert "s3cret" not in response.text


@pytest.mark.parametrize("asked", [[{"webhook_url": "s3cret"}], {"webhook": "https://hooks.example.org/s3cret"}])
def test_an_address_in_another_place_is_not_repeated_either(tmp_path: Path, asked: object) -> None:
    with api(tmp_path / "home") as client:
        response = client.post(f"{BASE}/analysis/fitting/start", json=asked)
    error_of(response, 400, "INVALID_PARAMETERS")
    assert "s3cret" not in response.text


def test_requests_that_start_jobs_may_name_what_is_allowed(tmp_path: Path) -> None:
    traces = write_maturation(tmp_path / "traces.csv", 2)
    settings = {"webhook_secret": SECRET, "allowed_webhooks": "https://hooks.example.org/pyama"}
    with api(tmp_path / "home", **settings) as client:

        def answer(webhook: object) -> str:
            asked = body(traces, webhook_url=webhook)
            response = client.post(f"{BASE}/analysis/fitting/start", json=asked)
            allowed = response.status_code == 503  # all was checked, and there is no orchestrator
            return "" if allowed else error_of(response, 400, "INVALID_PARAMETERS")

        assert answer("https://hooks.example.org/pyama/team") == ""
        assert answer(None) == ""
        assert "webhook_url: https://hooks.example.org:443/… is not among" in answer(
            "https://hooks.example.org/T0?token=1"
        )
        assert "webhook_url: an address must not hold a user" in answer("https://hooks.example.org@evil.example/pyama")
        assert "webhook_url: " in answer(7)
        for path, asked in (
            (
                "processing/workflow/start",
                {"microscopy_path": "/nowhere.nd2", "output_dir": "/nowhere", "channels": CHANNELS},
            ),
            ("processing/merge", {"sample_yaml": str(traces), "input_dir": str(tmp_path), "output_dir": str(tmp_path)}),
        ):
            response = client.post(f"{BASE}/{path}", json={**asked, "webhook_url": "http://169.254.169.254/"})
            assert "is not among the addresses" in error_of(response, 400, "INVALID_PARAMETERS")
