"""The page in a real browser, at the real stack: from the file picker to fitted parameters."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from api.security import new_api_key
from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.models import curve
from tasks.simulation import SimulationSettings, simulate
from tests.browser import DEADLINE_MS, Scheme, Visit, chromium, visit
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked

N_FOVS, N_FRAMES, SIZE_PX = 2, 8, 420

JOB_DEADLINE_MS = 180_000

expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of cells that begin to glow."""
    folder = tmp_path_factory.mktemp("page")
    settings = SimulationSettings(n_fovs=N_FOVS, n_frames=N_FRAMES, height=SIZE_PX, width=SIZE_PX, interval_min=60.0)
    simulate(settings, folder / "cells.nd2")
    return folder


@pytest.fixture
def tab(browser: Browser, stack: RunningStack) -> Iterator[Visit]:
    with visit(browser, stack.api_url) as tab:
        yield tab


def test_a_run_from_the_file_picker_to_fitted_parameters(tab: Visit, folder: Path) -> None:
    tab.open()
    start_run(tab, folder)
    job = tab.page.locator(".job").first
    expect(job).to_have_attribute("data-status", "completed", timeout=JOB_DEADLINE_MS)
    tab.keep_screenshot("jobs")
    tab.check_accessibility()
    job.get_by_role("link", name="Open").click()
    look_at_frames(tab)
    look_at_a_cell(tab)
    mark_a_cell(tab, folder)
    tab.keep_screenshot("result")
    tab.check_accessibility()
    merge(tab)
    fit(tab)
    tab.keep_screenshot("fit")
    tab.check_accessibility()


def start_run(tab: Visit, folder: Path) -> None:
    page = tab.page
    page.get_by_role("navigation").get_by_role("link", name="New run").click()
    page.get_by_role("button", name="Choose: Recording").click()
    picker = page.get_by_role("dialog")
    picker.get_by_role("textbox", name="Folder").fill(str(folder))
    page.keyboard.press("Enter")
    picker.get_by_role("button", name="cells.nd2").click()
    expect(page.get_by_text("fields of view")).to_be_visible()
    expect(page.get_by_label("Channel 0: Phase")).to_have_value("phase")
    expect(page.get_by_label("Channel 1: GFP")).to_have_value("fluorescence")
    results = page.get_by_role("textbox", name="Folder for the results")
    expect(results).to_have_value(f"{folder}/cells_results")
    page.get_by_label("min frames").fill("0")
    page.get_by_role("button", name="Start the run").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("parameters.min_frames")
    expect(alert).to_contain_text("allowed are 1 or more")
    page.get_by_label("min frames").fill("3")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator(".job").first).to_contain_text("cells.nd2")


def look_at_frames(tab: Visit) -> None:
    page = tab.page
    image = page.get_by_role("img", name=re.compile("frame 1 of 8"))
    expect(image).to_be_visible()
    first = drawn(page.locator(".viewer canvas"))
    slider = page.get_by_role("slider", name="Frame")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".viewer output")).to_have_text(f"2 / {N_FRAMES}")
    expect(page.get_by_role("img", name=re.compile("Phase, frame 2 of 8"))).to_be_visible()
    wait_for_another(page.locator(".viewer canvas"), first)
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".viewer output")).not_to_have_text(f"2 / {N_FRAMES}")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    with_outlines = drawn(page.locator(".viewer canvas"))
    page.get_by_label("Outlines").uncheck()
    wait_for_another(page.locator(".viewer canvas"), with_outlines)
    page.get_by_label("Outlines").check()
    page.keyboard.press("Tab")
    page.get_by_label("Image").select_option(label="GFP, less background")
    slider.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("img", name=re.compile("GFP, less background, frame 8 of 8"))).to_be_visible()


def look_at_a_cell(tab: Visit) -> None:
    """Click where the API says that a cell is, and see it chosen."""
    page = tab.page
    found = page.evaluate(
        """async () => {
            const query = new URLSearchParams(location.hash.split("?")[1]);
            const answer = await fetch(`api/v1/visualization/traces?${query}&page=1`);
            return (await answer.json()).cells.at(-1);
        }"""
    )
    canvas = page.locator(".viewer canvas")
    box = canvas.bounding_box()
    assert box is not None
    scale = box["width"] / SIZE_PX
    canvas.click(position={"x": found["position_x"][-1] * scale, "y": found["position_y"][-1] * scale})
    chip = page.get_by_role("button", name=f"Cell {found['cell']}, good")
    expect(chip).to_have_attribute("aria-pressed", "true")
    chip.press("Enter")
    expect(chip).to_be_focused()
    plots = page.locator(".cell-panel .plot canvas")
    expect(plots).to_have_count(len(found["values"]))


def mark_a_cell(tab: Visit, folder: Path) -> None:
    page = tab.page
    page.get_by_role("button", name="Bad", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Say who you are first")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Bad", exact=True).click()
    expect(page.get_by_text("Last marked by Ada")).to_be_visible()
    expect(page.locator(".cells [data-good=false]")).to_have_count(1)
    (inspected,) = (folder / "cells_results").glob("fov_*/*_traces_inspected.csv")
    assert ",False," in inspected.read_text()


def merge(tab: Visit) -> None:
    page = tab.page
    page.get_by_role("link", name="Merge samples").click()
    expect(page.get_by_label("FOVs of the sample")).to_have_value("0-1")
    page.get_by_label("Name of the sample").fill("control")
    page.get_by_role("button", name="Merge", exact=True).click()
    row = page.get_by_role("listitem").filter(has_text="control_intensity_total_ch_1.csv")
    with page.expect_download() as saving:
        row.get_by_role("link", name="Download").click()
    table = saving.value.path().read_text()
    assert table.startswith("# Time units: min\ntime,fov,cell,value\n")
    assert saving.value.suggested_filename == "control_intensity_total_ch_1.csv"
    row.get_by_role("link", name="Fit").click()


def fit(tab: Visit) -> None:
    page = tab.page
    expect(page.get_by_text(re.compile(r"\d+ cells · 8 time points"))).to_be_visible()
    page.get_by_label("Model", exact=True).select_option("maturation")
    page.get_by_role("button", name="Start the fit").click()
    expect(page.locator("figure[data-parameter]")).to_have_count(3, timeout=JOB_DEADLINE_MS)
    expect(page.locator("figure canvas")).to_have_count(3)
    expect(page.locator("figure[data-parameter=rate] figcaption")).to_contain_text(
        re.compile(r"rate: median [0-9.e-]+ 1/h")
    )
    expect(page.locator(".fit-plot canvas")).to_be_visible()
    page.locator("tbody button").nth(1).click()
    expect(page.locator("tr[aria-selected=true] button")).to_have_text(page.locator("tbody button").nth(1).inner_text())


def drawn(canvas: Locator) -> str:
    """What a canvas shows."""
    shown: str = canvas.evaluate("canvas => canvas.toDataURL()")
    return shown


def wait_for_another(canvas: Locator, before: str) -> None:
    """Wait until a canvas shows something else."""
    canvas.page.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before]
    )


def test_the_recording_that_was_chosen_last_counts(tab: Visit, folder: Path, tmp_path: Path) -> None:
    page = tab.page
    slow = shutil.copy(folder / "cells.nd2", tmp_path / "slow.nd2")
    held: list[Route] = []
    page.route("**/load-metadata", lambda route: route.continue_() if held else held.append(route))
    tab.open(f"#/new?recording={slow}")
    expect(page.get_by_text("Looking into the recording")).to_be_visible()
    recording = page.get_by_role("textbox", name="Recording")
    recording.fill(str(folder / "cells.nd2"))
    recording.press("Tab")
    results = page.get_by_role("textbox", name="Folder for the results")
    expect(results).to_have_value(f"{folder}/cells_results")
    with page.expect_response("**/load-metadata"):
        held[0].continue_()
    # The page has got the answer, too.
    page.wait_for_timeout(500)
    expect(results).to_have_value(f"{folder}/cells_results")
    expect(page.get_by_role("button", name="Start the run")).to_be_enabled()


def test_curves_are_those_of_the_fitted_models(browser: Browser, stack: RunningStack) -> None:
    times = np.linspace(-1.0, 30.0, 200)
    cases = {
        "trivial": {"amplitude": 2.0, "offset": 0.5},
        "maturation": {"amplitude": 3.0, "rate": 0.2, "offset": -1.0},
        "translation_maturation": {
            "t0": 0.4, "ktl": 1000.0, "delta": 0.07, "offset": 3.0, "km": 1.28, "beta": 5.22e-3,
        },
        "maturation_blocked": {"t0": 2.0, "G0": 50.0, "Gu0": 80.0, "km": 1.1, "beta": 0.02, "offset": 5.0},
    }  # fmt: skip
    assert set(cases) == set(FITTING_MODELS)
    equal_rates = {**cases["translation_maturation"], "delta": 5.22e-3}
    with visit(browser, stack.api_url) as tab:
        tab.open()
        for name, values in [*cases.items(), ("translation_maturation", equal_rates)]:
            told = tab.page.evaluate(
                """async ([name, values, times]) =>
                    (await import(new URL("page/js/models.js", location).href)).curve(name, values, times)""",
                [name, values, times.tolist()],
            )
            np.testing.assert_allclose(told, curve(FITTING_MODELS[name], times, values), rtol=1e-5, atol=1e-6)


@pytest.mark.stack
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible(browser: Browser, stack: RunningStack, folder: Path, scheme: Scheme) -> None:
    out = folder / "accessible"
    job_id = stack.client.start(asked(folder / "cells.nd2", out))
    stack.client.finish(job_id)
    (table,) = out.glob("fov_000/*_traces.csv")
    with visit(browser, stack.api_url, scheme) as tab:
        for name, view in {
            "jobs": "",
            "new": f"#/new?recording={folder}/cells.nd2",
            "results": "#/result",
            "result": f"#/result?output_dir={out}",
            "merge": f"#/merge?input_dir={out}",
            "fit": f"#/fit?csv_path={table}",
        }.items():
            tab.open(view)
            tab.page.wait_for_load_state("networkidle") if view else tab.page.locator(".job").first.wait_for()
            tab.check_accessibility()
            tab.keep_screenshot(f"{scheme}-{name}")
        tab.open("#/new")
        tab.page.get_by_role("button", name="Choose: Recording").click()
        tab.page.get_by_role("dialog").get_by_role("listitem").first.wait_for()
        tab.check_accessibility()
        tab.keep_screenshot(f"{scheme}-picker")


@pytest.mark.stack
def test_a_job_is_cancelled_and_taken_up_again(tab: Visit, stack: RunningStack, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "long.nd2", film(10, 600))
    job_id = stack.client.start(asked(recording, tmp_path / "out", n_workers=1))
    tab.open()
    job = tab.page.locator(f"[data-job='{job_id}']")
    expect(job).to_have_attribute("data-status", "running", timeout=JOB_DEADLINE_MS)
    tab.page.wait_for_function("id => document.querySelector(`[data-job='${id}'] progress`).value > 0", arg=job_id)
    job.get_by_role("button", name="Cancel").click()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    tab.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(job.get_by_role("button", name="Cancel")).to_be_focused()
    job.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(job).to_have_attribute("data-status", "cancelled", timeout=JOB_DEADLINE_MS)
    job.get_by_role("button", name="Retry").click()
    expect(job).to_have_attribute("data-status", "completed", timeout=JOB_DEADLINE_MS)
    expect(job).to_contain_text("10 of 10 FOVs")


@pytest.mark.stack
def test_the_page_asks_for_a_key_and_keeps_it_for_the_tab(browser: Browser, stack: RunningStack, folder: Path) -> None:
    out = folder / "keyed"
    job_id = stack.client.start(asked(folder / "cells.nd2", out, fovs="0"))
    stack.client.finish(job_id)
    key, entry = new_api_key("ada", "read-only")
    with stack.another_api(PYAMA_API_KEYS=entry) as client, visit(browser, client.url) as tab:
        tab.page.goto(client.url)
        dialog = tab.page.get_by_role("dialog")
        dialog.get_by_label("Key", exact=True).fill("wrong")
        tab.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("the API key is not known")
        dialog.get_by_label("Key", exact=True).fill(key)
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator(f"[data-job='{job_id}']")).to_be_visible()
        stored = tab.page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
        assert key in stored[0]
        assert key not in stored[1]
        tab.open(f"#/result?output_dir={out}")
        expect(tab.page.get_by_role("img", name=re.compile("frame 1 of 8"))).to_be_visible()
        with tab.page.expect_download() as saving:
            tab.page.get_by_role("link", name="Table of this FOV").click()
        assert saving.value.path().read_text().startswith("fov,cell,frame,time,good")
        tab.page.locator(".cells .chip").first.click()
        tab.page.get_by_label("Your name").fill("Ada")
        tab.page.keyboard.press("Tab")
        tab.page.get_by_role("button", name="Bad", exact=True).click()
        expect(tab.page.get_by_role("alert")).to_contain_text("read-only")


@pytest.mark.stack
def test_a_page_that_looks_again_by_itself_asks_for_no_key(browser: Browser, stack: RunningStack) -> None:
    key, entry = new_api_key("ada", "operator")
    with stack.another_api(PYAMA_API_KEYS=entry) as client, visit(browser, client.url) as tab:
        tab.page.goto(client.url)
        dialog = tab.page.get_by_role("dialog")
        dialog.get_by_label("Key", exact=True).fill(key)
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("main").get_by_role("link", name="New run")).to_be_visible()
        tab.page.get_by_role("button", name="API key", exact=True).click()
        dialog.get_by_role("button", name="Forget the key").click()
        expect(tab.page.locator("main").get_by_role("alert")).to_contain_text("an API key is needed")
        expect(dialog).to_have_count(0)


@pytest.mark.stack
def test_the_list_goes_on_where_no_events_come(browser: Browser, stack: RunningStack, folder: Path) -> None:
    with visit(browser, stack.api_url) as tab:
        tab.page.route("**/events", lambda route: route.abort())
        job_id = stack.client.start(asked(folder / "cells.nd2", folder / "polled"))
        tab.open()
        expect(tab.page.locator(f"[data-job='{job_id}']")).to_have_attribute(
            "data-status", "completed", timeout=JOB_DEADLINE_MS
        )


def test_no_text_becomes_part_of_the_page(tab: Visit, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    (tmp_path / name).mkdir()
    tab.open("#/new")
    tab.page.get_by_role("button", name="Choose: Recording").click()
    picker = tab.page.get_by_role("dialog")
    picker.get_by_role("textbox", name="Folder").fill(str(tmp_path))
    tab.page.keyboard.press("Enter")
    picker.get_by_role("button", name=name).click()
    expect(picker.get_by_role("textbox", name="Folder")).to_have_value(str(tmp_path / name))
    picker.get_by_role("textbox", name="Folder").fill("/nowhere")
    tab.page.keyboard.press("Enter")
    expect(picker.get_by_role("alert")).to_contain_text("'/nowhere' does not exist")
    assert tab.page.locator("img[src=x]").count() == 0
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("button", name="Choose: Recording")).to_be_focused()
    assert json.loads(tab.page.evaluate("JSON.stringify(document.querySelectorAll('dialog').length)")) == 0
