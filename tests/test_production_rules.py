"""The alarms: each is a valid expression, of numbers that the API and Dask really tell."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from api.main import create_app
from api.settings import Settings
from tests.api_server import BASE
from tests.engines import ROOT

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deployments" / "monitoring" / "pyama.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
OF_PROMETHEUS = {"up"}
"""What Prometheus tells of its own scrapes."""
_DURATION = re.compile(r"(\d+[smhd])+")
_PARTS = ("lhs", "rhs", "expr", "args", "param", "vector_selector")


def selectors(expression: Any) -> Iterator[Any]:
    """All selections of a metric in an expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in _PARTS:
        found = getattr(expression, part, None)
        for one in found if isinstance(found, list) else [found]:
            if one is not None:
                yield from selectors(one)


def labels(selector: Any) -> dict[str, str]:
    """Labels that a selection asks for, with their values or patterns."""
    return {matcher.name: matcher.value for matcher in selector.matchers.matchers}


def metrics_of_alarms() -> set[str]:
    """Names of all metrics that the alarms look at."""
    return {selector.name for rule in RULES for selector in selectors(promql_parser.parse(rule["expr"]))}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert _DURATION.fullmatch(rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert list(selectors(promql_parser.parse(rule["expr"])))


def test_names_of_alarms_differ() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def test_routes_that_alarms_look_at_are_those_of_the_api(tmp_path: Path) -> None:
    described = create_app(Settings(home=tmp_path)).openapi()["paths"]
    routes = {
        labels(selector)["route"]
        for rule in RULES
        for selector in selectors(promql_parser.parse(rule["expr"]))
        if "route" in labels(selector)
    }
    assert routes
    assert {f"{BASE}{route}" for route in routes} <= described.keys()


def test_the_operators_are_told_of_every_alarm() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert [rule["alert"] for rule in RULES if f"`{rule['alert']}`" not in text] == []
