"""Compiled kernels are kept, and never used after a change of any file with kernels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.kernel import sources_digest
from tests.engines import ROOT

OUTER = "from tasks.kernel import kernel\nfrom inner import number\n\n@kernel\ndef outer():\n    return number()\n"
INNER = "from tasks.kernel import kernel\n\n@kernel\ndef number():\n    return {}\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.py").write_text(INNER.format(1))
    (tmp_path / "below" / "b.py").write_text(OUTER)
    (tmp_path / "plain.py").write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize("name", ["a.py", "below/b.py"])
def test_digest_changes_with_every_file_that_holds_kernels(package: Path, name: str) -> None:
    before = sources_digest(package)
    path = package / name
    path.write_text(path.read_text() + "\n")
    assert sources_digest(package) != before


def test_digest_changes_with_the_name_of_a_file(package: Path) -> None:
    before = sources_digest(package)
    (package / "a.py").rename(package / "c.py")
    assert sources_digest(package) != before


def test_digest_does_not_change_with_other_files(package: Path) -> None:
    before = sources_digest(package)
    (package / "plain.py").write_text("x = 2\n")
    assert sources_digest(package) == before


def kept_in(environment: dict[str, str]) -> Path:
    """Folder in which a program with these variables keeps its kernels."""
    script = "import numba, tasks.kernel; print(numba.config.CACHE_DIR)"
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | environment
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=variables, check=True, capture_output=True, text=True
    ).stdout
    return Path(printed.strip())


def test_kernels_are_kept_beside_the_sources_or_where_numba_is_told_to(tmp_path: Path) -> None:
    name = f"kernels-{sources_digest(ROOT / 'tasks')}"
    assert kept_in({}) == ROOT / "tasks" / "__pycache__" / name
    assert kept_in({"NUMBA_CACHE_DIR": str(tmp_path)}) == tmp_path / name
