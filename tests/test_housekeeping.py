"""What the caretaker does away with, at a real Prefect server and on real files; and what it leaves alone."""

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogWorker
from prefect.states import Completed, Failed, Running, Scheduled

from api.errors import JobNotFinishedError, JobNotFoundError
from api.jobs import PROCESSING
from api.orchestrator import Orchestrator, forget_runs
from api.settings import Settings
from deployments.caretaker import DUTIES, take_care
from deployments.database import compact, compact_database, database_url, sqlite_file
from deployments.leftovers import clear_output_folders, tidy_home
from deployments.retention import forget_old_runs, forget_runs_before
from tasks.fitting.chunks import FitWork
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FittingRequest
from tasks.job_marks import COMMON_TAG, FOUND_LABEL, SCAN_LABEL
from tasks.output import OutputLock, clear_leftovers
from tasks.output.layout import temporary_name
from tasks.output.lock import lock_holder
from tests.engines import wait_until
from tests.output_worker import content, make_provenance, write_fov
from tests.trace_tables import write_maturation

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow(name="process-acquisition")
def a_job(microscopy_path: str = "/film.nd2", output_dir: str = "/results") -> None:
    get_run_logger().info("something to keep")
    a_task()
    create_markdown_artifact("fine", key="of-a-job")


@task
def a_task() -> None:
    create_markdown_artifact("fine", key="of-a-task")


@flow(name="of-somebody-else")
def another_flow() -> None:
    pass


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def put(client: SyncPrefectClient, state: State[Any], labels: dict[str, Any] | None = None, **parameters: str) -> UUID:
    """A job in a state."""
    run = client.create_flow_run(a_job, parameters=parameters, tags=[COMMON_TAG, PROCESSING.tag])
    if labels:
        client.update_flow_run_labels(run.id, dict(labels))
    client.set_flow_run_state(run.id, state, force=True)
    return run.id


def is_there(client: SyncPrefectClient, run_id: UUID) -> bool:
    try:
        client.read_flow_run(run_id)
    except ObjectNotFound:
        return False
    return True


T = TypeVar("T")


def ask(question: Callable[[PrefectClient], Awaitable[T]]) -> T:
    async def answer() -> T:
        async with get_client() as client:
            return await question(client)

    return asyncio.run(answer())


def done_once(duty: Callable[[PrefectClient, Settings], Awaitable[T]], settings: Settings) -> T:
    return ask(lambda client: duty(client, settings))


def forget_all_that_ended(settings: Settings) -> int:
    """What the duty does to runs that ended days ago, done to those that have ended by now."""
    return ask(lambda client: forget_runs_before(client, settings, datetime.now(UTC)))


def n_artifacts(client: SyncPrefectClient, run_id: UUID) -> int:
    selection = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    return len(client.read_artifacts(artifact_filter=selection))


def n_logs(client: SyncPrefectClient, run_id: UUID) -> int:
    return len(client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))))


def test_a_run_is_forgotten_with_all_about_it(client: SyncPrefectClient, tmp_path: Path) -> None:
    done: State[Any] = a_job(output_dir=str(tmp_path), return_state=True)
    run_id = done.state_details.flow_run_id
    assert run_id is not None
    APILogWorker.drain_all(timeout=30)
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    wait_until(lambda: n_logs(client, run_id) and client.read_task_runs(flow_run_filter=of_run), "all is told")
    assert n_artifacts(client, run_id) == 2
    (task_run,) = client.read_task_runs(flow_run_filter=of_run)
    (tmp_path / "traces.csv").write_text("fov,cell\n")

    assert forget_all_that_ended(Settings(home=tmp_path / "home")) >= 1

    assert not is_there(client, run_id)
    assert n_artifacts(client, run_id) == 0
    with pytest.raises(ObjectNotFound):
        client.read_task_run(task_run.id)
    wait_until(lambda: n_logs(client, run_id) == 0, "Prefect has deleted the logs")
    assert (tmp_path / "traces.csv").exists()


def test_what_has_not_ended_and_what_is_not_ours_stays(client: SyncPrefectClient, tmp_path: Path) -> None:
    states: list[State[Any]] = [Scheduled(), Running()]
    active = [put(client, state) for state in states]
    state: State[Any] = another_flow(return_state=True)
    foreign = state.state_details.flow_run_id
    assert foreign is not None
    old = put(client, Completed())
    forget_all_that_ended(Settings(home=tmp_path))
    assert [is_there(client, run_id) for run_id in (*active, foreign, old)] == [True, True, True, False]
    assert ask(lambda prefect: forget_runs(prefect, active)) == []
    assert all(is_there(client, run_id) for run_id in active)


def test_the_duty_keeps_what_has_just_ended(client: SyncPrefectClient, tmp_path: Path) -> None:
    run_id = put(client, Completed())
    for settings in (Settings(home=tmp_path), Settings(home=tmp_path, keep_runs_days=1)):
        assert done_once(forget_old_runs, settings) is None
    assert is_there(client, run_id)


def test_more_runs_than_a_transaction_takes(client: SyncPrefectClient, tmp_path: Path) -> None:
    runs = [client.create_flow_run(a_job, state=Completed()).id for _ in range(51)]
    assert forget_all_that_ended(Settings(home=tmp_path)) >= 51
    assert not any(is_there(client, run_id) for run_id in runs)


def test_the_nightly_scan_remembers_what_it_has_processed(client: SyncPrefectClient, tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    settings = Settings(home=tmp_path / "home", nightly_folder=incoming, nightly_output=tmp_path / "results")
    recording = incoming / "film.nd2"
    run_id = put(client, Completed(), {SCAN_LABEL: "a scan"}, microscopy_path=str(recording))
    forget_all_that_ended(settings)
    assert is_there(client, run_id)  # nothing is in the folder: it may not be mounted
    recording.touch()
    forget_all_that_ended(settings)
    assert is_there(client, run_id)
    forget_all_that_ended(Settings(home=tmp_path / "home"))
    assert is_there(client, run_id)  # no folder is scanned at present
    another = incoming / "day" / "another.nd2"
    another.parent.mkdir()
    recording.rename(another)
    client.update_flow_run_labels(run_id, {FOUND_LABEL: str(another)})
    forget_all_that_ended(settings)
    assert is_there(client, run_id)
    (incoming / "a_newer_one.nd2").touch()
    another.rename(tmp_path / "elsewhere.nd2")
    forget_all_that_ended(settings)
    assert is_there(client, run_id)  # nothing is in the day's folder: it may be one that is mounted by itself
    another.parent.rmdir()
    forget_all_that_ended(settings)
    assert not is_there(client, run_id)


def test_the_api_tells_the_truth_of_runs_that_are_gone(client: SyncPrefectClient, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    async def look(prefect: PrefectClient) -> None:
        orchestrator = Orchestrator(prefect, settings)
        run_id = put(client, Completed())
        assert (await orchestrator.job(str(run_id))).status == "completed"
        before = (await orchestrator.count_jobs())["processing", "completed"]
        assert str(run_id) in [job.job_id for job in (await orchestrator.jobs([], None, 50, 0)).jobs]
        assert await forget_runs(prefect, [run_id]) == [run_id]
        assert (await orchestrator.count_jobs())["processing", "completed"] == before - 1
        assert str(run_id) not in [job.job_id for job in (await orchestrator.jobs([], None, 50, 0)).jobs]
        with pytest.raises(JobNotFoundError):
            await orchestrator.job(str(run_id), now=True)
        active = put(client, Running())
        with pytest.raises(JobNotFinishedError):
            await orchestrator.delete(str(active))

    ask(look)


def unfinished(output_dir: Path) -> list[str]:
    return [path.name for path in output_dir.iterdir() if path.name.startswith(".fov_")]


def test_what_dead_runs_left_in_their_folders_is_cleared_away(client: SyncPrefectClient, tmp_path: Path) -> None:
    settings, provenance = Settings(home=tmp_path / "home"), make_provenance()
    free, held, unknown = (tmp_path / name for name in ("free", "held", "unknown"))
    for folder in (free, held, unknown):
        folder.mkdir()
        write_fov(folder, 0, provenance)
        attempt = folder / ".fov_001.0123456789ab.tmp"
        attempt.mkdir()
        (attempt / "half.npy").write_bytes(b"half")
    before = content(free / "fov_000")
    for folder in (free, held):
        put(client, Failed(), output_dir=str(folder))
    put(client, Failed(), output_dir="relative")
    put(client, Failed(), output_dir=str(tmp_path / "gone"))
    put(client, Running(), output_dir=str(unknown))
    with OutputLock(held, "a run"):
        told = ask(lambda prefect: clear_output_folders(prefect, settings, quiet_s=0.0))
    assert told is not None
    assert told.startswith("1 unfinished")
    assert (unfinished(free), len(unfinished(held)), len(unfinished(unknown))) == ([], 1, 1)
    assert content(free / "fov_000") == before
    assert done_once(clear_output_folders, settings) is None
    assert len(unfinished(held)) == 1  # whoever has just ended may be tried again, and clears its folder itself


def test_what_dead_fits_left_is_cleared_away_after_some_days(client: SyncPrefectClient, tmp_path: Path) -> None:
    traces = write_maturation(tmp_path / "a.b.csv", 2)
    request = FittingRequest.parse(csv_path=str(traces), model_type="maturation")
    held = make_fit_plan(FittingRequest.parse(csv_path=str(traces), model_type="trivial")).files.work_folder
    plan = make_fit_plan(request)
    for folder in (plan.files.work_folder, held):
        folder.mkdir()
        FitWork.prepare(folder, plan.traces, request)
    plots = (plan.files.plot("curves", "png"), plan.files.plot("pairs", "svg"))
    for path in (plan.files.table, plan.files.summary, plan.files.parquet, *plots):
        (tmp_path / temporary_name(path.name)).write_text("half")
    mine = {traces, held, tmp_path / ".notes.csv.0123456789ab.tmp", tmp_path / ".mine.parts"}
    for path in mine - {traces, held}:
        path.write_text("mine")
    settings = Settings(home=tmp_path / "home")
    ask(lambda prefect: clear_output_folders(prefect, settings, quiet_s=0.0))  # what other tests have left
    put(client, Failed(), csv_path=str(traces))
    with OutputLock(held, "a run"):
        assert ask(lambda prefect: clear_output_folders(prefect, settings, quiet_s=0.0)) is None
        long_ago = time.time() - 4 * 86400
        for path in tmp_path.rglob("*"):
            os.utime(path, (long_ago, long_ago))
        told = ask(lambda prefect: clear_output_folders(prefect, settings, quiet_s=0.0))
    assert told is not None
    assert told.startswith("6 unfinished")
    assert set(tmp_path.iterdir()) == mine


def test_a_folder_is_held_for_a_moment_only_while_it_is_cleared(tmp_path: Path) -> None:
    """What was moved aside gets its name back; nothing is locked, or made, where there is nothing to clear."""
    assert clear_leftovers(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    aside = tmp_path / ".fov_000.0123456789ab.old"
    aside.mkdir()
    (aside / "traces.csv").write_text("precious")
    assert clear_leftovers(tmp_path) == 1
    assert (tmp_path / "fov_000" / "traces.csv").read_text() == "precious"
    with OutputLock(tmp_path, "the next run"):
        pass


def test_a_folder_is_free_while_what_was_moved_aside_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[str | None] = []
    remove = shutil.rmtree

    def look(*arguments: Any, **options: Any) -> None:
        holders.append(lock_holder(tmp_path))
        remove(*arguments, **options)

    for name in ("fov_000", ".fov_000.0123456789ab.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "traces.csv").write_text(name)
    monkeypatch.setattr(shutil, "rmtree", look)
    assert clear_leftovers(tmp_path) == 1
    assert holders == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pyama.lock", "fov_000"]
    assert (tmp_path / "fov_000" / "traces.csv").read_text() == "fov_000"


def test_old_files_of_the_home_are_removed(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    names = ("status-a.json", "status-b.77.tmp", "metrics/1-2.77.tmp", "metrics/ended.json", "start.lock", "mine.tmp")
    for name in names:
        (tmp_path / name).touch()
    settings = Settings(home=tmp_path)
    assert done_once(tidy_home, settings) is None
    long_ago = time.time() - 40 * 86400
    for name in names:
        os.utime(tmp_path / name, (long_ago, long_ago))
    told = done_once(tidy_home, settings)
    assert told is not None
    assert told.startswith("3 old files")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["metrics/ended.json", "mine.tmp", "start.lock"]


def test_a_database_gives_back_what_it_does_not_use(tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, text)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO log (text) VALUES (?)", [("x" * 1000,)] * 5000)
        connection.execute("COMMIT")
        assert compact(path, least_unused_bytes=1) == 0  # nothing is unused
        connection.execute("DELETE FROM log WHERE id > 100")
        assert compact(path) == 0  # too little to be worth it
        size = path.stat().st_size
        freed = compact(path, least_unused_bytes=1)
        assert 4_000_000 < freed < size
        assert path.stat().st_size == size - freed
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (100,)


def test_the_database_of_a_server_is_compacted_under_it(
    client: SyncPrefectClient, prefect_api: str, tmp_path: Path
) -> None:
    """A server at work on its database goes on, and has lost nothing."""
    path = sqlite_file(database_url())
    assert path is not None
    run_id = put(client, Completed())
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE rubbish AS SELECT randomblob(20000000) AS bytes")
        connection.execute("DROP TABLE rubbish")
    assert compact(path, least_unused_bytes=1) > 10_000_000
    assert is_there(client, run_id)
    assert is_there(client, put(client, Completed()))


def test_the_caretaker_sees_to_all_of_it(client: SyncPrefectClient, tmp_path: Path) -> None:
    """Its duties as they are, done once by a caretaker of this process, on a home and a folder where each is due."""
    duties = {duty.do for duty in DUTIES}
    assert {forget_old_runs, clear_output_folders, tidy_home, compact_database} <= duties
    rubbish = tmp_path / "status-a.77.tmp"
    rubbish.touch()
    os.utime(rubbish, (0, 0))

    async def until_tidy() -> None:
        caring = asyncio.create_task(take_care(Settings(home=tmp_path, keep_runs_days=1)))
        async with asyncio.timeout(60):
            while rubbish.exists():
                await asyncio.sleep(0.05)
        caring.cancel()
        await asyncio.gather(caring, return_exceptions=True)

    asyncio.run(until_tidy())
