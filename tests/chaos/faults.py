"""What can go wrong: each fault strikes, and puts right what only people can put right."""

import errno
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from tests.chaos.processes import runs_module, send, with_environment
from tests.chaos.scene import SETTLED_WITHIN_S, TRUE_WITHIN_S, Place, Scene
from tests.engines import wait_until
from tests.stack import is_alive

Phase = Literal["computing", "starting", "finishing"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    role: str
    strike: Callable[[Scene, random.Random], list[int]]
    """Does it, and returns the processes that were hit."""
    place: Place = "local"
    phase: Phase = "computing"
    weight: float = 1.0
    """How often it is chosen, compared with others."""
    needs_small_disk: bool = False


def _kill(find: Callable[[Scene], list[int]]) -> Callable[[Scene, random.Random], list[int]]:
    def strike(scene: Scene, _random: random.Random) -> list[int]:
        pids = find(scene)
        send(signal.SIGKILL, pids)
        wait_until(lambda: not any(map(is_alive, pids)), f"{pids} are dead", TRUE_WITHIN_S)
        return pids

    return strike


def _stall(find: Callable[[Scene], list[int]]) -> Callable[[Scene, random.Random], list[int]]:
    def strike(scene: Scene, chosen: random.Random) -> list[int]:
        pids, pause_s = find(scene), chosen.uniform(1.0, 6.0)
        send(signal.SIGSTOP, pids)
        try:
            time.sleep(pause_s)
        finally:
            send(signal.SIGCONT, pids)
        return pids

    return strike


def _program(*modules: str) -> Callable[[Scene], list[int]]:
    def find(scene: Scene) -> list[int]:
        wait_until(lambda: _programs(scene, modules), f"{modules} runs", 60.0)
        return _programs(scene, modules)

    return find


def _programs(scene: Scene, words: tuple[str, ...]) -> list[int]:
    pids = with_environment(PYAMA_HOME=str(scene.stack.home), PYAMA_PORT=scene.stack.environment["PYAMA_PORT"])
    return [pid for pid in pids if all(runs_module(pid, word) for word in words)]


_api = _program("uvicorn", "api.main:app")
_server = _program("deployments.prefect_server")
_caretaker = _program("deployments.caretaker")
_worker = _program("worker", "pyama")


def _supervisor(scene: Scene) -> list[int]:
    return [scene.stack.process.pid]


def _kill_dask_worker(scene: Scene, chosen: random.Random) -> list[int]:
    assert scene.dask is not None
    victim = chosen.choice(scene.dask.workers)
    send(signal.SIGKILL, [victim])
    wait_until(lambda: not is_alive(victim), "the victim is dead", TRUE_WITHIN_S)
    time.sleep(chosen.uniform(0.0, 2.0))
    scene.dask.keep()
    return [victim]


def _kill_dask_scheduler(scene: Scene, chosen: random.Random) -> list[int]:
    assert scene.dask is not None
    victim = scene.dask.scheduler
    send(signal.SIGKILL, [victim])
    wait_until(lambda: not is_alive(victim), "the victim is dead", TRUE_WITHIN_S)
    time.sleep(chosen.uniform(0.0, 2.0))
    scene.dask.keep()
    return [victim]


def _stall_dask_worker(scene: Scene, chosen: random.Random) -> list[int]:
    assert scene.dask is not None
    return _stall(lambda scene: scene.dask.workers[:1] if scene.dask else [])(scene, chosen)


def _kill_everything(scene: Scene, _random: random.Random) -> list[int]:
    pids = with_environment(PYAMA_HOME=str(scene.stack.home), PYAMA_PORT=scene.stack.environment["PYAMA_PORT"])
    send(signal.SIGKILL, [scene.stack.process.pid, *pids])
    return _start_again(scene, pids)


def _kill_supervisor(scene: Scene, _random: random.Random) -> list[int]:
    victim = scene.stack.process.pid
    send(signal.SIGKILL, [victim])
    return _start_again(scene, [victim])


def _lose_machine(scene: Scene, _random: random.Random) -> list[int]:
    """Kill a worker that nobody starts again, so that only its silence tells of it."""
    supervisor = [scene.stack.process.pid]
    send(signal.SIGSTOP, supervisor)
    try:
        victims = [*_worker(scene), *scene.processes()]
        send(signal.SIGKILL, victims)
        scene.wait(lambda: scene.state() not in {"RUNNING", "CANCELLING"}, "the state becomes true", TRUE_WITHIN_S)
    finally:
        send(signal.SIGCONT, supervisor)
    return victims


def _start_again(scene: Scene, victims: list[int]) -> list[int]:
    scene.stack.process.wait()
    wait_until(lambda: not _programs(scene, ()), "nothing of the stack outlives its supervisor", TRUE_WITHIN_S)
    scene.restart()
    return victims


def _fill_disk(scene: Scene, chosen: random.Random) -> list[int]:
    ballast = scene.disk / "ballast"
    try:
        with ballast.open("wb") as file, suppress_full():
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        time.sleep(chosen.uniform(1.0, 8.0))
    finally:
        ballast.unlink()
    return []


@contextmanager
def suppress_full() -> Iterator[None]:
    """Go on where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _hide_recording(scene: Scene, chosen: random.Random) -> list[int]:
    hidden = scene.recording.with_suffix(".away")
    scene.recording.rename(hidden)
    try:
        time.sleep(chosen.uniform(1.0, 8.0))
    finally:
        hidden.rename(scene.recording)
    return []


def _truncate_recording(scene: Scene, chosen: random.Random) -> list[int]:
    size = scene.recording.stat().st_size
    kept = int(size * chosen.uniform(0.6, 0.95))
    with scene.recording.open("r+b") as file:
        file.seek(kept)
        tail = file.read()
        file.truncate(kept)
        try:
            time.sleep(chosen.uniform(1.0, 8.0))
        finally:
            file.seek(kept)
            file.write(tail)
    assert scene.recording.stat().st_size == size
    return []


def _try_again(scene: Scene, _random: random.Random) -> list[int]:
    """Press the button although the job is running, as a script may."""
    scene.try_again_by_hand()
    return []


def _cancel(scene: Scene, _random: random.Random) -> list[int]:
    with suppress(Exception):  # it may have ended by itself by now
        scene.stack.client.cancel(scene.current.id)
    scene.wait(lambda: scene.look().status in {"cancelled", "completed", "failed"}, "the job is cancelled", 60.0)
    return []


def _run_out_of_time(scene: Scene, _random: random.Random) -> list[int]:
    scene.wait(lambda: scene.look().status in {"failed", "completed"}, "the job runs out of time", SETTLED_WITHIN_S)
    if scene.current.last["status"] == "failed" and "PYAMA_JOB_TIMEOUT" not in scene.current.last["error"]:
        scene.current.problems.append(f"failed for another reason: {scene.current.last['error']}")
    return []


FAULTS = (
    Fault("api", _kill(_api), weight=2.0),
    Fault("worker", _kill(_worker), weight=2.0),
    Fault("flow process", _kill(Scene.flow_process), weight=2.0),
    Fault("engine", _kill(Scene.engine), weight=2.0),
    Fault("prefect server", _kill(_server), weight=2.0),
    Fault("caretaker", _kill(_caretaker), weight=0.5),
    Fault("supervisor", _kill_supervisor, weight=0.5),
    Fault("everything", _kill_everything, weight=1.0),
    Fault("worker for good", _lose_machine, weight=0.5),
    Fault("dask worker", _kill_dask_worker, place="dask", weight=5.0),
    Fault("dask scheduler", _kill_dask_scheduler, place="dask", weight=3.0),
    Fault("stalled dask worker", _stall_dask_worker, place="dask", weight=2.0),
    Fault("stalled engine", _stall(Scene.engine)),
    Fault("stalled flow process", _stall(Scene.flow_process)),
    Fault("stalled worker", _stall(_worker)),
    Fault("stalled server", _stall(_server)),
    Fault("disk full", _fill_disk, needs_small_disk=True),
    Fault("input gone", _hide_recording),
    Fault("input truncated", _truncate_recording),
    Fault("retry by hand", _try_again),
    Fault("cancel starting", _cancel, phase="starting", weight=0.7),
    Fault("cancel computing", _cancel),
    Fault("cancel finishing", _cancel, phase="finishing", weight=0.7),
    Fault("engine starting", _kill(Scene.processes), phase="starting", weight=0.7),
    Fault("out of time", _run_out_of_time, place="timed", weight=0.7),
)
ROLES = {fault.role: fault for fault in FAULTS}
