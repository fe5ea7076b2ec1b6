"""Plugins: what they add, what becomes of those that do not keep to the rules, and how results know of them.

Each process loads plugins once, so each test has processes of its own.
"""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import PluginError
from tasks.fitting.request import FitSpecification
from tasks.plugins import check_plugins
from tasks.simulation import SimulationSettings, simulate
from tests.engines import ROOT
from tests.program import run_pyama
from tests.recordings import write_recording

EXAMPLES = ROOT / "docs" / "plugins"
LIST = """
import json
from tasks.plugins import load_plugins
found = load_plugins()
print(json.dumps({
    "loaded": {one.plugin.name: [one.plugin.version, list(one.additions)] for one in found.loaded},
    "failed": {one.name: one.reason for one in found.failed},
}))
"""
WRONG = {
    "syntax": ("def register(plugin)\n", "SyntaxError: expected ':'"),
    "importing": ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    "exiting": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "silent": ("x = 1\n", "no function register(plugin)"),
    "greedy": ("def register(plugin, more):\n    pass\n", "no function register(plugin)"),
    "raising": ("def register(plugin):\n    raise OSError('no')\n", "OSError: no (raising.py, line 2)"),
    "taken": ("area", "there is a phase feature 'area' already"),
    "capital": ("Area", "a name is made of small letters"),
    "channel": ("of_ch_1", "its name cannot hold _ch_"),
    "unit": ("unit=''", "has no unit"),
    "arguments": ("compute=lambda: 1", "its function must take 1 argument"),
    "needing": ("needs=['colour']", "needs colour, which is no optional column; there are perimeter"),
    "scalar": ("compute=lambda regions: 1.0", "must give an array of 0 float64 for 0 regions, not float"),
    "whole": ("compute=lambda regions: regions.area", "of shape (0,) and type int64"),
    "failing": ("compute=lambda regions: regions.volume", "fails for 0 regions: AttributeError"),
}  # fmt: skip


def feature_plugin(what: str) -> str:
    """A plugin with one phase feature, in which one thing is as told."""
    told = {
        "name": "'thing'",
        "unit": "'px'",
        "description": "'A thing'",
        "compute": "lambda regions: regions.perimeter * 1.0",
    }
    if "=" in what:
        name, _, value = what.partition("=")
        told[name] = value
    else:
        told["name"] = repr(what)
    arguments = ", ".join(f"{name}={value}" for name, value in told.items())
    return f"def register(plugin):\n    plugin.phase_feature({arguments})\n"


def listed(folder: Path | None, **environment: str) -> dict[str, Any]:
    """What a process with the plugins of a folder finds."""
    variables = {"PYTHONPATH": str(ROOT), **({"PYAMA_PLUGINS": str(folder)} if folder else {}), **environment}
    ended = subprocess.run([sys.executable, "-c", LIST], env=variables, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    assert all(name in ended.stderr for name in found["failed"])
    return found


def assert_told(folder: Path, wrong: Mapping[str, tuple[str, str]]) -> None:
    """Hold plugins to adding nothing, and what is told of each to its reason: text and reason by name."""
    for name, (text, _) in wrong.items():
        (folder / f"{name}.py").write_text(text)
    found = listed(folder)
    assert found["loaded"] == {}
    for name, (_, reason) in wrong.items():
        assert reason in found["failed"][name], name


def test_the_examples_are_plugins() -> None:
    found = listed(EXAMPLES)
    assert found["failed"] == {}
    assert {name: additions for name, (_, additions) in found["loaded"].items()} == {
        "bright_blobs": ["segmentation method bright_blobs"],
        "exponential_decay": ["fitting model exponential_decay"],
        "intensity_variance": ["fluorescence feature intensity_variance"],
        "nearest": ["tracking method nearest"],
        "npz_film": ["format npz-film"],
        "roundness": ["phase feature roundness"],
    }


def test_without_plugins_there_are_none() -> None:
    assert listed(None) == {"loaded": {}, "failed": {}}


def test_those_that_break_the_rules_are_told_of_and_the_others_work(tmp_path: Path) -> None:
    for name, (what, _) in WRONG.items():
        (tmp_path / f"{name}.py").write_text(what if "\n" in what else feature_plugin(what))
    shutil.copy(EXAMPLES / "roundness.py", tmp_path / "zz_good.py")
    (tmp_path / "_helper.py").write_text("raise OSError")
    (tmp_path / "notes.txt").write_text("no plugin")
    found = listed(tmp_path)
    assert list(found["loaded"]) == ["zz_good"]
    assert found["failed"].keys() == WRONG.keys()
    for name, (_, reason) in WRONG.items():
        assert reason in found["failed"][name], name


def test_a_plugin_is_taken_as_a_whole(tmp_path: Path) -> None:
    good = (EXAMPLES / "roundness.py").read_text()
    (tmp_path / "half.py").write_text(good + "    plugin.phase_feature('area', '1', 'Again', roundness)\n")
    (tmp_path / "later.py").write_text(good)
    found = listed(tmp_path)
    assert list(found["failed"]) == ["half"]
    assert found["loaded"]["later"][1] == ["phase feature roundness"]


def test_wrong_models_are_told_of(tmp_path: Path) -> None:
    good = (EXAMPLES / "exponential_decay.py").read_text()
    wrong = {
        "derivative": (good.replace("-times[i] * phi", "times[i] * phi"), "its derivatives by rate do not agree"),
        "unfilled": (good.replace("phi[1, i] = 1.0", "pass"), "not finite, or leaves some out"),
        "bounds": (good.replace("(1e-4, 100.0)", "(100.0, 1e-4)"), "must ascend"),
        "default": (good.replace('"rate", 0.1', '"rate", 1e3'), "the default of rate, 1000, is outside its bounds"),
        "twice": (good.replace('"offset", 0.0', '"rate", 0.0'), "two parameters of the same name"),
        "known": (good.replace('"exponential_decay"', '"maturation"'), "there is a fitting model 'maturation' already"),
        "crashing": (good.replace("for i in", "times.fly()\n    for i in"), "AttributeError"),
    }
    assert_told(tmp_path, wrong)


def test_wrong_methods_are_told_of(tmp_path: Path) -> None:
    good = (EXAMPLES / "bright_blobs.py").read_text()
    wrong = {
        "name": (good.replace('["bright_blobs"] = "bright_blobs"', '["Blobs"] = "Blobs"'), "a name is made of small"),
        "literal": (good.replace('Literal["bright_blobs"] =', "str ="), "its field must be written as method: Literal"),
        "default": (good.replace("        6.0, description", "        description"), "threshold have no default"),
        "described": (good.replace(', description="Least', ', title="Least'), "has no description"),
        "arguments": (good.replace("(image, parameters, pixel_size_um)", "(image)"), "must take 3 arguments"),
        "model": (good.replace("(MethodParameters)", ""), "are a class of MethodParameters"),
        "known": (good.replace("bright_blobs", "logstd"), "there is a segmentation method 'logstd' already"),
    }
    assert_told(tmp_path, wrong)


def test_a_folder_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in listed(tmp_path / "nowhere")["failed"]["PYAMA_PLUGINS"]


def test_an_installed_package_brings_plugins(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "roundness.py", tmp_path / "lab_shapes.py")
    about = tmp_path / "lab_shapes-2.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-shapes\nVersion: 2.5\n")
    (about / "entry_points.txt").write_text(
        "[pyama.plugins]\nshapes = lab_shapes\nfunction = lab_shapes:roundness\nmissing = lab_nothing\n"
    )
    found = listed(None, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert found["loaded"] == {"shapes": ["2.5", ["phase feature roundness"]]}
    assert "is no module" in found["failed"]["function"]
    assert "No module named 'lab_nothing'" in found["failed"]["missing"]


def test_a_run_measures_with_plugins_and_records_their_versions(tmp_path: Path, prefect_api: str) -> None:
    recording = tmp_path / "film.nd2"
    simulate(SimulationSettings(n_fovs=1, n_frames=2, height=256, width=256), recording)
    plugins = tmp_path / "plugins"
    shutil.copytree(EXAMPLES, plugins)
    environment = {"PREFECT_API_URL": prefect_api, "PYAMA_PLUGINS": str(plugins)}
    command = (
        "process", recording, "-o", tmp_path / "out", "--phase", "0:circularity,roundness",
        "--fluorescence", "1:intensity_std,intensity_variance", "--set", "border_margin=0", "--set", "keep=none",
    )  # fmt: skip
    ended = run_pyama(*command, environment=environment)
    assert ended.returncode == 0, ended.stderr
    (table,) = (tmp_path / "out").glob("fov_000/*_traces.csv")
    rows = list(csv.DictReader(table.open()))
    assert rows
    for row in rows:
        assert float(row["roundness_ch_0"]) == pytest.approx(min(float(row["circularity_ch_0"]), 1.0), abs=2e-6)
        assert float(row["intensity_variance_ch_1"]) == pytest.approx(float(row["intensity_std_ch_1"]) ** 2, rel=1e-6)
    manifest = json.loads((tmp_path / "out" / "fov_000" / "manifest.json").read_text())
    versions = {name: version for name, (version, _) in listed(plugins)["loaded"].items()}
    assert manifest["parameters"]["plugins"] == {name: versions[name] for name in ("intensity_variance", "roundness")}
    # With another state of a plugin, other results may come out: the folder is not gone on with.
    with (plugins / "roundness.py").open("a") as file:
        file.write("# changed\n")
    again = run_pyama(*command, environment=environment)
    assert again.returncode != 0
    assert "plugins" in again.stderr
    without = run_pyama(*command, environment={"PREFECT_API_URL": prefect_api})
    assert "unknown feature 'roundness'" in without.stderr


def test_cells_are_found_and_followed_by_plugins(tmp_path: Path, prefect_api: str) -> None:
    """Bright discs that move by 3 pixels a frame: each is found at its place, under one number."""
    rows, columns = np.mgrid[:96, :128]
    images = np.random.default_rng(0).normal(100, 3, (1, 4, 2, 96, 128))
    starts = np.array([[30, 25], [30, 95], [70, 60]])
    for t in range(4):
        for y, x in starts + np.array([2 * t, 3 * t]):
            images[0, t, :, (rows - y) ** 2 + (columns - x) ** 2 <= 64] += 200
    recording = write_recording(tmp_path / "film.nd2", images.astype(np.uint16))
    command = (
        "process", recording, "-o", tmp_path / "out", "--set", "border_margin=0", "--set", "min_frames=4",
        "--set", "segmentation=bright_blobs", "--set", "tracking=nearest",
    )  # fmt: skip
    ended = run_pyama(*command, environment={"PREFECT_API_URL": prefect_api, "PYAMA_PLUGINS": str(EXAMPLES)})
    assert ended.returncode == 0, ended.stderr
    (table,) = (tmp_path / "out").glob("fov_000/*_traces.csv")
    found = {(int(row["cell"]), int(row["frame"])): row for row in csv.DictReader(table.open())}
    assert len(found) == 12
    for (cell, frame), row in found.items():
        y, x = starts[cell - 1] + np.array([2 * frame, 3 * frame])
        assert (float(row["position_x"]), float(row["position_y"])) == (x, y)
    manifest = json.loads((tmp_path / "out" / "fov_000" / "manifest.json").read_text())
    assert sorted(manifest["parameters"]["plugins"]) == ["bright_blobs", "nearest"]


def test_a_fit_with_the_model_of_a_plugin_finds_what_was_put_in(tmp_path: Path, prefect_api: str) -> None:
    times_h = np.arange(60) / 6.0
    lines = ["# Time units: h", "time,fov,cell,value"]
    rng = np.random.default_rng(1)
    for cell in range(1, 6):
        values = 100.0 * cell * np.exp(-0.3 * times_h) + 20.0 + rng.normal(0, 0.5, times_h.size)
        lines += [f"{time:.6f},0,{cell},{value:.6f}" for time, value in zip(times_h, values, strict=True)]
    (tmp_path / "traces.csv").write_text("\n".join(lines) + "\n")
    environment = {"PREFECT_API_URL": prefect_api, "PYAMA_PLUGINS": str(EXAMPLES)}
    ended = run_pyama("fit", tmp_path / "traces.csv", "-m", "exponential_decay", environment=environment)
    assert ended.returncode == 0, ended.stderr
    rows = list(csv.DictReader((tmp_path / "traces_fitted_exponential_decay.csv").open()))
    assert [row["success"] for row in rows] == ["True"] * 5
    for cell, row in enumerate(rows, 1):
        assert float(row["amplitude"]) == pytest.approx(100.0 * cell, rel=0.02)
        assert float(row["rate"]) == pytest.approx(0.3, rel=0.05)
        assert float(row["offset"]) == pytest.approx(20.0, abs=2.0)


def test_the_api_lists_plugins_and_what_they_add(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    shutil.copytree(EXAMPLES, plugins)
    (plugins / "wrong.py").write_text("import nowhere_to_be_found\n")
    program = f"""
import json
from pathlib import Path
from api.main import create_app
from api.settings import Settings
from tests.api_server import BASE, ask
app = create_app(Settings(home=Path({str(tmp_path)!r})))
routes = ("/plugins", "/processing/features", "/analysis/models")
print(json.dumps([ask(app, "GET", BASE + route).json() for route in routes]))
"""
    variables = {"PYTHONPATH": str(ROOT), "PYAMA_PLUGINS": str(plugins), "HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    listing, features, models = json.loads(ended.stdout)
    assert [one["name"] for one in listing["plugins"]] == [
        "bright_blobs", "exponential_decay", "intensity_variance", "nearest", "npz_film", "roundness",
    ]  # fmt: skip
    assert listing["plugins"][-1]["origin"] == "roundness.py"
    (failed,) = listing["failed"]
    assert (failed["name"], failed["origin"]) == ("wrong", "wrong.py")
    assert "nowhere_to_be_found" in failed["reason"]
    assert features["phase_features"][-1] == "roundness"
    assert features["details"]["fluorescence"]["intensity_variance"]["unit"] == "counts^2/px^2"
    assert models["models"][-1]["name"] == "exponential_decay"
    assert [one["name"] for one in models["models"][-1]["parameters"]] == ["amplitude", "rate", "offset"]


def test_wrong_formats_are_told_of(tmp_path: Path) -> None:
    good = (EXAMPLES / "npz_film.py").read_text()
    wrong = {
        "name": (good.replace('("npz-film", [', '("Npz", ['), "a name is made of small letters"),
        "known": (good.replace('("npz-film", [', '("nd2", ['), "there is a format 'nd2' already"),
        "none": (good.replace('[".film.npz"]', "[]"), "has no ending"),
        "dotless": (good.replace('[".film.npz"]', '["npz"]'), "an ending is written as .raw is"),
        "taken": (good.replace('[".film.npz"]', '[".tif"]'), ".tif is an ending of the format 'ome-tiff' already"),
        "arguments": (good.replace("(self, path, z_plane)", "(self, path)"), "must take 2 arguments"),
    }
    assert_told(tmp_path, wrong)


def test_a_format_of_a_plugin_gives_the_same_traces(tmp_path: Path, prefect_api: str) -> None:
    images = np.random.default_rng(0).normal(100, 3, (2, 3, 2, 80, 90)).astype(np.uint16)
    rows, columns = np.mgrid[:80, :90]
    images[..., (rows - 40) ** 2 + (columns - 45) ** 2 <= 200] += 150
    write_recording(tmp_path / "a.nd2", images)
    np.savez(tmp_path / "a.film.npz", images=images, interval_min=10.0)
    environment = {"PREFECT_API_URL": prefect_api, "PYAMA_PLUGINS": str(EXAMPLES)}
    tables = []
    for recording in ("a.nd2", "a.film.npz"):
        command = ("process", tmp_path / recording, "-o", tmp_path / f"out-{recording}", "--set", "border_margin=0")
        ended = run_pyama(*command, "--set", "min_frames=1", environment=environment)
        assert ended.returncode == 0, ended.stderr
        tables.append([path.read_bytes() for path in sorted((tmp_path / f"out-{recording}").glob("*/*_traces.csv"))])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2
    manifest = json.loads((tmp_path / "out-a.film.npz" / "fov_000" / "manifest.json").read_text())
    assert list(manifest["parameters"]["plugins"]) == ["npz_film"]
    without = run_pyama("process", tmp_path / "a.film.npz", "-o", tmp_path / "no")
    assert "is not a known format" in without.stderr


SCAN = """
import json, sys
from pathlib import Path
from tasks.new_acquisitions import LeftOut, ScanRequest, scan
folder = Path(sys.argv[1])
request = ScanRequest.parse(folder=str(folder), output_root=str(folder.parent / "results"), settle_s=0)
print(json.dumps({one.recording: one.why if isinstance(one, LeftOut) else None for one in scan(request)}))
"""


def test_a_bad_file_of_a_plugins_format_never_stops_a_scan(tmp_path: Path) -> None:
    plugins, folder = tmp_path / "plugins", tmp_path / "incoming"
    plugins.mkdir()
    folder.mkdir()
    (plugins / "raising.py").write_text(
        "def read(path, z_plane):\n    raise LookupError('no such thing')\n"
        "def files(path):\n    if path.stat().st_size > 1:\n        raise LookupError('none')\n    return [path]\n"
        "def register(plugin):\n    plugin.recording_format('raising', ['.raising'], read, files)\n"
    )
    shutil.copy(EXAMPLES / "npz_film.py", plugins)
    (folder / "a.raising").write_text("1")
    (folder / "b.raising").write_text("12")
    (folder / "c.film.npz").write_bytes(b"PK\x03\x04, and no more")
    np.savez(folder / "d.film.npz", images=np.zeros((2, 3)), interval_min=1.0)
    images = np.random.default_rng(0).normal(100, 3, (1, 3, 2, 80, 90)).astype(np.uint16)
    write_recording(folder / "e.nd2", images)
    ended = subprocess.run(
        [sys.executable, "-c", SCAN, folder],
        env={"PYTHONPATH": str(ROOT), "PYAMA_PLUGINS": str(plugins)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found.pop("e.nd2") is None
    for name in ("a.raising", "b.raising"):
        assert f"{name}' cannot be read: the file is damaged, or unlike any known one (LookupError:" in found[name]
    for name in ("c.film.npz", "d.film.npz"):
        assert found[name].startswith(f"{name} cannot be read: ")


def test_a_worker_without_the_plugin_refuses_the_work() -> None:
    with pytest.raises(PluginError, match=r"takes: roundness 1\.0\+abc \(here: none\); give all workers the same"):
        check_plugins({"roundness": "1.0+abc"})
    specification = FitSpecification("trivial", {}, {}, plugins={"decay": "1.0"})
    with pytest.raises(PluginError, match=r"takes: decay 1\.0 \(here: none\)"):
        _ = specification.model
