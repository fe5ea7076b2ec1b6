"""The examples of docs/extending.md, each run as it is written; those that are plugins are in tests/test_plugins.py."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from api.settings import Settings
from tests.api_server import BASE, ask
from tests.engines import ROOT
from tests.output_worker import make_provenance, write_fov

EXAMPLES = ROOT / "docs" / "examples"
GUIDE = ROOT / "docs" / "extending.md"


def example(name: str) -> dict[str, Any]:
    """What an example defines."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_the_guide_names_files_that_are_there() -> None:
    linked = re.findall(r"\]\(((?!http)[^)#]+)", GUIDE.read_text())
    assert len(linked) > 8
    assert [path for path in linked if not (GUIDE.parent / path).exists()] == []
    shown = {Path(path).name for path in linked}
    examples = [*EXAMPLES.glob("*.py"), *(ROOT / "docs" / "plugins").glob("*.py")]
    assert {path.name for path in examples} <= shown


def test_an_endpoint_of_ones_own(tmp_path: Path) -> None:
    app = example("free_space")["make_app"](Settings(home=tmp_path, allowed_paths=(tmp_path,)))
    answer = ask(app, "GET", f"{BASE}/files/free-space", params={"directory_path": str(tmp_path)})
    assert answer.status_code == 200
    usage = shutil.disk_usage(tmp_path)
    assert answer.json()["success"] is True
    assert answer.json()["total_bytes"] == usage.total
    assert 0 < answer.json()["free_bytes"] <= usage.total
    for path, status in (("/", 403), (str(tmp_path / "nowhere"), 404)):
        refused = ask(app, "GET", f"{BASE}/files/free-space", params={"directory_path": path})
        assert (refused.status_code, refused.json()["success"]) == (status, False)


def test_a_flow_of_ones_own(tmp_path: Path, prefect_api: str) -> None:
    provenance = make_provenance()
    for fov in (0, 3):
        write_fov(tmp_path, fov, provenance)
    command = [sys.executable, str(EXAMPLES / "count_cells.py"), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.splitlines()[-1] == "2 cells in 2 FOVs"
