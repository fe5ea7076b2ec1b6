"""The arrows of the house: which package may import which, and what stays out of light processes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"tasks", "flows", "api", "deployments", "pyama_backend"}
ALLOWED = {
    "tasks": set[str](),
    "flows": {"tasks"},
    "api": {"tasks"},
    "deployments": {"tasks", "flows", "api"},
    "pyama_backend": {"api"},
}
HEAVY = {"cv2", "numba", "scipy", "skimage"}
LIGHT = [
    "api.main",
    "flows.cluster_settings",
    "tasks.acquisition",
    "tasks.configuration",
    "tasks.display",
    "tasks.errors",
    "tasks.features",
    "tasks.fitting.plan",
    "tasks.fitting.results",
    "tasks.fov_table",
    "tasks.inspection",
    "tasks.job_marks",
    "tasks.merge_plan",
    "tasks.new_acquisitions",
    "tasks.output",
    "tasks.trace_files",
]


def imported(path: Path) -> dict[str, int]:
    """Rooms that a file imports from, anywhere in it, with the line."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        found |= {name.split(".")[0]: node.lineno for name in names}
    return {name: line for name, line in found.items() if name in ROOMS | {"tests", "benchmarks"}}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    forbidden = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, line in imported(path).items()
        if name not in ALLOWED[room] | {room}
    ]
    assert forbidden == []


def test_relative_imports_do_not_hide_an_arrow() -> None:
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in sorted(ROOMS)
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == ""
