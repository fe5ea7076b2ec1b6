"""The command-line program: what it does, what it says to mistakes, and how it ends."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from api.security import ApiKey, parse_api_key
from api.settings import Settings
from deployments.cli import main
from deployments.planning import parse_settings, plan_run
from tasks.errors import InvalidParametersError
from tasks.fov_job import FovJob
from tasks.output import OutputLock, ensure_folder
from tasks.plan import Plan
from tasks.simulation import SimulationSettings, simulate
from tests.engines import DaskProcesses, claiming_version, wait_until
from tests.output_worker import content
from tests.program import mistake, run_pyama, start_pyama
from tests.recordings import DATA, random_images, write_recording

N_FOVS = 4
OPTIONS = ("--set", "min_frames=10", "--n-workers", "1", "--batch-size", "1")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four FOVs that take a moment each."""
    path = tmp_path_factory.mktemp("film") / "film.nd2"
    simulate(SimulationSettings(n_fovs=N_FOVS, n_frames=60, height=400, width=400), path)
    return path


@pytest.fixture(scope="module")
def small_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two FOVs and three channels: Phase, GFP, mCherry."""
    return write_recording(tmp_path_factory.mktemp("small") / "small.nd2", random_images(n_fovs=2, n_channels=3))


@pytest.fixture(scope="module")
def reference(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an undisturbed computation of that film, without any engine."""
    plan = plan_run(film, tmp_path_factory.mktemp("reference"), None, [], {"min_frames": 10})
    for fov in plan.fovs:
        job_of(plan).run(fov)
    return plan.output_dir


def job_of(plan: Plan) -> FovJob:
    return FovJob(plan.metadata.path, plan.output_dir, plan.request.configuration(), plan.provenance, overwrite=False)


@dataclass(frozen=True)
class Interrupted:
    """A run that was ended by Ctrl-C in its midst, and the one that went on."""

    output_dir: Path
    first: CompletedProcess[str]
    group: int
    finished: dict[str, tuple[int, int]]
    """Inode and time of change of the FOVs that the first has left, by name."""
    second: CompletedProcess[str]


@pytest.fixture(scope="module")
def interrupted(film: Path, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Interrupt a run that has the embedded server, and go on with the server that is configured."""
    output_dir = tmp_path_factory.mktemp("interrupted") / "results"
    command = ("process", film, "--output-dir", output_dir, *OPTIONS)
    with start_pyama(*command, environment={"PREFECT_API_URL": None}) as process:
        wait_until((output_dir / "fov_000").exists, "the first FOV is finished", deadline_s=180)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        out, err = process.communicate(timeout=60)
    first = CompletedProcess(process.args, process.returncode, out, err)
    finished = {path.name: identity(path) for path in output_dir.glob("fov_*")}
    return Interrupted(output_dir, first, process.pid, finished, run_pyama(*command))


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_interrupted_run_ends_with_130_and_says_how_to_go_on(interrupted: Interrupted) -> None:
    assert interrupted.first.returncode == 130
    assert "run the same command again" in interrupted.first.stderr.splitlines()[-1]
    assert "Traceback" not in interrupted.first.stderr
    assert 1 <= len(interrupted.finished) < N_FOVS


def test_interrupted_run_leaves_no_process_behind(interrupted: Interrupted) -> None:
    def all_gone() -> bool:
        with suppress(ProcessLookupError):
            os.killpg(interrupted.group, 0)
            return False
        return True

    wait_until(all_gone, "the embedded server has ended")


def test_next_run_does_not_compute_finished_fovs_again(interrupted: Interrupted) -> None:
    assert interrupted.second.returncode == 0, interrupted.second.stderr
    assert f"({len(interrupted.finished)} finished before)" in interrupted.second.stdout
    after = {name: identity(interrupted.output_dir / name) for name in interrupted.finished}
    assert after == interrupted.finished


def test_interrupted_and_undisturbed_run_give_the_same_bytes(interrupted: Interrupted, reference: Path) -> None:
    for fov in range(N_FOVS):
        assert content(interrupted.output_dir / f"fov_{fov:03d}") == content(reference / f"fov_{fov:03d}")


def test_run_says_which_channels_it_takes_and_what_came_out(interrupted: Interrupted) -> None:
    second = interrupted.second
    assert "channels: phase 0 (Phase): area, aspect_ratio; fluorescence 1 (GFP): intensity_total" in second.stderr
    n_cells = sum(
        len(set(np.loadtxt(table, delimiter=",", skiprows=1, usecols=1, ndmin=1)))
        for table in interrupted.output_dir.glob("fov_*/*_traces.csv")
    )
    assert f"FOVs: {N_FOVS}" in second.stdout
    assert f", cells: {n_cells}, " in second.stdout
    assert f"Results: {interrupted.output_dir}" in second.stdout


def test_progress_in_a_log_is_a_few_plain_lines(interrupted: Interrupted) -> None:
    lines = interrupted.second.stderr.splitlines()
    assert len(lines) < 12
    assert all(line.startswith("pyama: ") for line in lines)
    assert f"{60 * N_FOVS} of {60 * N_FOVS} frames (100%)" in lines[-1]


def test_failed_run_ends_with_1_and_names_the_fov_and_the_reason(tmp_path: Path, prefect_api: str) -> None:
    path = write_recording(tmp_path / "gap.nd2", random_images(n_fovs=2), missing={(1, 2)})
    result = run_pyama("process", path, "-o", tmp_path / "results")
    assert result.returncode == 1
    assert "1 of 2 FOVs failed (1); FOV 1: " in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert (tmp_path / "results" / "fov_000").exists()


def test_orchestrator_that_does_not_answer_is_told_in_one_line(small_film: Path, tmp_path: Path) -> None:
    result = run_pyama(
        "process", small_film, "-o", tmp_path / "results", environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    )
    assert result.returncode == 1
    assert "Prefect at http://127.0.0.1:9/api does not answer" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--phase", "0:volume"], "channels.phase.features: unknown feature 'volume'; available: area, "),
        (["--phase", "0:"], "channels.phase.features: unknown feature ''"),
        (
            ["--fluorescence", "1:area"],
            "channels.fluorescence.0.features: unknown feature 'area'; available: intensity",
        ),
        (["--fluorescence", "7"], "no channel 7; it has 0 (Phase), 1 (GFP), 2 (mCherry)"),
        (["--phase", "DIC"], "--phase: the recording has no channel 'DIC'; it has 0 (Phase), 1 (GFP), 2 (mCherry)"),
        (["--fluorescence", "1", "--fluorescence", "GFP"], "channel 1 is used twice"),
        (["--fovs", "0-2"], "parameters.fovs: FOV 2 does not exist; the recording has 2 FOVs: 0 to 1 are allowed"),
        (["--fovs", "one"], "parameters.fovs: cannot understand 'one'"),
        (["--n-workers", "0"], "parameters.n_workers: allowed are 1 to 256 (got 0)"),
        (["--n-workers", "two"], "Invalid value for '--n-workers': 'two' is not a whole number"),
        (["--batch-size", "257"], "parameters.batch_size: allowed are 1 to 256 (got 257)"),
        (["--set", "background_weight=2"], "parameters.background_weight: allowed are 0 to 1 (got 2"),
        (["--set", "min_frames=many"], "parameters.min_frames: Input should be a valid integer (got 'many')"),
        (["--set", "colour=red"], "parameters.colour: unknown field (got 'red')"),
        (["--set", "min_frames"], "--set 'min_frames' is no assignment; write NAME=VALUE"),
        (["--set", "keep=[all"], "--set 'keep=[all': the value cannot be understood"),
        (["--set", "keep=all", "--set", "keep=none"], "--set keep is given twice"),
        (["--set", "n_workers=1", "--n-workers", "2"], "n_workers is given twice: by --set and by --n-workers"),
        (["--set", "z_plane=3"], "parameters.z_plane: there is no plane 3; the recording has 1 plane"),
        (["--fovs", "1", "--set", "fov_start=1"], "fovs cannot be combined with fov_start and fov_end"),
        (["--depth", "3"], "No such option: --depth"),
    ],
)
def test_mistake_in_an_option_is_told_in_one_line(
    options: list[str], said: str, small_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in mistake(capsys, "process", small_film, "-o", tmp_path / "results", *options)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("nowhere.nd2", "nowhere.nd2' does not exist"),
        ("", "it is not a file but a folder"),
        ("nd2_variants/truncated.nd2", "truncated.nd2' cannot be read"),
        ("nd2_variants/empty.nd2", "the file is empty"),
        ("nd2_variants/not_an_nd2.nd2", "not_an_nd2.nd2' cannot be read"),
        ("lisca_truth.json", ".json is not a known format; known are .companion.ome, .czi, .nd2"),
    ],
)
def test_file_that_is_no_recording_is_told_in_one_line(
    file: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in mistake(capsys, "process", DATA / file, "-o", tmp_path / "results")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["process"], "Missing argument 'file'"),
        (["process", "film.nd2"], "Missing option '--output-dir'"),
        (["proces"], "No such command 'proces'"),
        (["up", "--prefect-port", "http"], "Invalid value for '--prefect-port': 'http' is not a whole number"),
        (["up", "--prefect-port", "0"], "Invalid value for '--prefect-port': 0 is not a port"),
        (["api-key", "a:b"], "'a:b' cannot be the name of a key"),
        (["api-key", "alice", "--role", "admin"], "'admin' is not one of 'read-only', 'operator'"),
        (["doctor", "--verify", "/nowhere"], "/nowhere holds no FOV directories"),
    ],
)
def test_mistake_in_a_command_is_told_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in mistake(capsys, *arguments)


def test_output_folder_that_is_a_file_is_refused(
    small_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    assert "is a file, not a folder" in mistake(capsys, "process", small_film, "-o", tmp_path / "taken")


def test_output_folder_of_another_recording_is_refused(
    small_film: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(reference)
    said = mistake(capsys, "process", small_film, "-o", reference)
    assert "another input: film.nd2" in said
    assert "choose another output folder" in said
    assert content(reference) == before


def test_output_folder_of_other_parameters_is_refused(
    film: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = mistake(capsys, "process", film, "-o", reference, "--set", "min_frames=11")
    assert "min_frames is 10 there, 11 was asked for" in said


def test_output_folder_of_a_run_that_goes_on_is_refused(
    small_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure_folder(tmp_path / "busy")
    with OutputLock(tmp_path / "busy", "6d1f"):
        assert "in use by run 6d1f" in mistake(capsys, "process", small_film, "-o", tmp_path / "busy")


def test_mistake_is_answered_before_any_engine_is_loaded(small_film: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from deployments.cli import main; code = main(sys.argv[1:]);"
        "print(code, *{'prefect', 'distributed', 'numba', 'pandas', 'matplotlib'} & sys.modules.keys())"
    )
    arguments = ["process", str(small_film), "-o", str(tmp_path / "results"), "--fovs", "9"]
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["2"]


def test_real_program_tells_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    result = run_pyama("process", tmp_path / "nowhere.nd2", "-o", tmp_path / "results")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"pyama: Recording '{tmp_path / 'nowhere.nd2'}' does not exist\n"


def test_relative_paths_are_taken_from_the_current_folder(small_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_film.parent)
    plan = plan_run(Path("small.nd2"), Path("results"), None, [], {})
    assert plan.request.microscopy_path == str(small_film)
    assert plan.request.output_dir == str(small_film.parent / "results")


def test_channels_are_named_or_numbered(small_film: Path, tmp_path: Path) -> None:
    plan = plan_run(small_film, tmp_path, "phase:perimeter", ["2", "GFP:intensity_max,intensity_mean"], {})
    channels = plan.request.channels
    assert (channels.phase.channel, channels.phase.features) == (0, ["perimeter"])
    assert [(one.channel, one.features) for one in channels.fluorescence] == [
        (2, ["intensity_total"]),
        (1, ["intensity_mean", "intensity_max"]),
    ]


def test_channels_that_are_not_named_are_suggested(small_film: Path, tmp_path: Path) -> None:
    channels = plan_run(small_film, tmp_path, None, ["GFP"], {}).request.channels
    assert channels.numbers == [0, 1]
    assert plan_run(small_film, tmp_path, "mCherry", [], {}).request.channels.numbers == [2, 1]
    assert plan_run(small_film, tmp_path, None, ["none"], {}).request.channels.numbers == [0]


def test_name_of_a_channel_may_hold_a_colon(tmp_path: Path) -> None:
    film = write_recording(tmp_path / "a.nd2", random_images(), channel_names=("Phase", "Cy5: far red"))
    for text in ("Cy5: far red", "Cy5: far red:intensity_mean"):
        assert plan_run(film, tmp_path / "out", None, [text], {}).request.channels.numbers == [0, 1]


def test_name_of_several_channels_is_refused(tmp_path: Path) -> None:
    film = write_recording(tmp_path / "a.nd2", random_images(n_channels=3), channel_names=("Phase", "GFP", "GFP"))
    with pytest.raises(InvalidParametersError, match=r"several channels are called 'GFP'; use a number: .*1 \(GFP\)"):
        plan_run(film, tmp_path / "out", None, ["GFP"], {})


def test_recording_without_a_phase_channel_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = mistake(capsys, "process", DATA / "nd2_real" / "example-timelapse.nd2", "-o", tmp_path / "results")
    assert "channels.phase: no channel looks like phase contrast" in said
    assert "say which of the channels it is: 0 (GFP 488 nm)" in said


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("1e-1", 0.1), ("3", 3), ("true", True), ("null", None), ("middle", "middle"), ("'0'", "0")],
)
def test_values_are_yaml_scalars(text: str, value: object) -> None:
    assert parse_settings([f"name={text}"]) == {"name": value}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["process", "--help"],
        ["merge", "--help"],
        ["fit", "--help"],
        ["demo", "-h"],
        ["up", "-h"],
        ["deploy", "-h"],
        ["api-key", "-h"],
        ["doctor", "--help"],
        [],
    ],
)
def test_help_is_printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == (0 if arguments else 2)
    assert "Usage: pyama" in capsys.readouterr().out


def test_api_key_is_printed_and_its_hash_is_for_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api-key", "dashboard", "--role", "read-only"]) == 0
    out, err = capsys.readouterr()
    (key,) = out.split()
    (line,) = err.splitlines()
    assert parse_api_key(line.split()[-1]) == ApiKey("dashboard", "read-only", sha256(key.encode()).hexdigest())
    assert key not in err


def test_deploying_to_a_server_that_does_not_answer_is_told_in_one_line() -> None:
    result = run_pyama("deploy", environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("pyama: Prefect does not answer")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PYAMA_PORT": "http"}, "PYAMA_PORT: "),
        ({"PYAMA_PORT": "0"}, "PYAMA_PORT: pyama up needs to know the port; choose 1 to 65535 (got 0)"),
        ({"PYAMA_DASK_MINIMUM": "0"}, "PYAMA_DASK_MINIMUM: Input should be greater than or equal to 1 (got '0')"),
        ({"PYAMA_DASK_CLUSTER_KWARGS": "{"}, "PYAMA_DASK_CLUSTER_KWARGS must be a JSON object"),
        (
            {"PYAMA_DASK_ADDRESS": "tcp://10.0.0.1:8786", "PYAMA_DASK_CLUSTER_CLASS": "distributed.LocalCluster"},
            "PYAMA_DASK_ADDRESS and PYAMA_DASK_CLUSTER_CLASS exclude each other",
        ),
    ],
)
def test_wrong_setting_of_the_stack_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert words in mistake(capsys, "up")


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:8000"), ("::", "http://[::1]:8000"), ("0.0.0.0", "http://127.0.0.1:8000")]
)
def test_the_stack_asks_its_api_where_it_listens(host: str, url: str) -> None:
    from deployments.stack import Stack  # here, because it loads Prefect

    assert Stack(Settings(host=host, public_url="https://lab.example.org"), 4200).api_url == url


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pyama 0.")


def test_doctor_names_settings_that_cannot_be(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", "tcp://127.0.0.1:9")
    monkeypatch.setenv("PYAMA_DASK_CLUSTER_CLASS", "distributed.LocalCluster")
    assert main(["doctor"]) == 1
    assert "PROBLEM Dask: PYAMA_DASK_ADDRESS and PYAMA_DASK_CLUSTER_CLASS" in capsys.readouterr().out


def test_doctor_counts_the_workers_of_a_cluster(
    dask_processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", dask_processes.address)
    main(["doctor"])  # what else there is to say of this server is not asked here
    told = f"ok      Dask: the scheduler at {dask_processes.address} answers; 2 workers with 4 threads, versions agree"
    assert told in capsys.readouterr().out.splitlines()


def test_doctor_names_a_worker_with_another_version(
    dask_processes: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", dask_processes.address)
    dask_processes.start_workers("old", environment=claiming_version(tmp_path, "nd2", "0.1"))
    address = dask_processes.worker_address("old")
    try:
        assert main(["doctor"]) == 1
    finally:
        dask_processes.kill_worker("old")
    told = f"PROBLEM Dask: The Dask worker old at {address} has other versions: nd2 0.1 there, "
    assert any(line.startswith(told) for line in capsys.readouterr().out.splitlines())


def test_doctor_names_a_cluster_that_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with DaskProcesses(tmp_path) as cluster:
        monkeypatch.setenv("PYAMA_DASK_ADDRESS", cluster.address)
        assert main(["doctor"]) == 1
        assert "answers, but has no workers, so that jobs wait; start one: dask worker" in capsys.readouterr().out
    assert main(["doctor"]) == 1
    assert "of PYAMA_DASK_ADDRESS does not answer" in capsys.readouterr().out


def test_doctor_verifies_results(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--verify", str(reference)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == N_FOVS


def test_doctor_names_a_damaged_file(small_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_run(small_film, tmp_path, None, [], {})
    job_of(plan).run(0)
    stack = next(tmp_path.glob("fov_000/*_pc_ch_0.npy"))
    with stack.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert main(["doctor", "--verify", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"PROBLEM {stack} is damaged: its checksum is ")
    assert line.endswith(f"remove {stack.parent} and start the job again: what is there is not computed anew")


def test_a_proxy_is_not_asked_for_this_host() -> None:
    program = (
        "import urllib.request; from deployments.cli import main; main(['--version'])\n"
        "print(*[bool(urllib.request.proxy_bypass(host)) for host in ('127.0.0.1', 'mine.example', 'other.example')])"
    )
    variables = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    variables |= {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "mine.example"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.split()[-3:] == ["True", "True", "False"]
