"""The suite: faults by a seed, one after another, and what became of each."""

import json
import random
import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.chaos.dask import DaskCluster
from tests.chaos.faults import FAULTS, ROLES, Fault
from tests.chaos.film import write_film
from tests.chaos.scene import COMPUTING_WITHIN_S, ENDED, Job, Moment, Place, Scene
from tests.stack import Client, running_stack

N_FOVS, N_FRAMES = 10, 2400
LEAST_COMPUTING = 0.7
"""Share of the faults that has to strike while FOVs are computed."""
_MOST_IN_A_ROW = 4
"""Faults of one place after another, so that a job meets several of them."""
_LONGEST_DELAY_S = 2.0
_LONGEST_START_S = 8.0
_TIMEOUT_S = 6.0
_LOOK_INTERVAL_S = 0.1


@dataclass
class Struck:
    """A fault, and what became of it."""

    number: int
    role: str
    seconds_into_suite: float
    job: str
    status: str
    percentage: float
    fovs: list[int]
    victims: list[int]
    lied_s: float = 0.0
    """For how long the job was told to run without a process."""
    settled_s: float = 0.0
    """After how long it had ended, or was worked on."""
    became: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def computing(self) -> bool:
        """Whether FOVs were being computed."""
        return bool(self.fovs)

    def __str__(self) -> str:
        fovs = ", ".join(map(str, self.fovs)) or "none"
        return (
            f"{self.number:4d} {self.seconds_into_suite:6.0f} s  {self.role:<20} pid {self.victims or '-'} "
            f"at {self.status} {self.percentage:.1f} %, FOV {fovs} -> {self.became} after {self.settled_s:.1f} s"
            + "".join(f"\n     PROBLEM {problem}" for problem in self.problems)
        )


def plan(n_faults: int, seed: int, faults: Sequence[Fault]) -> list[Fault]:
    """Choose faults; each role once before any comes twice, and several of the same place after another."""
    chosen = random.Random(seed)
    planned = list(faults[:n_faults])
    planned += chosen.choices(faults, [fault.weight for fault in faults], k=n_faults - len(planned))
    chosen.shuffle(planned)
    by_place = {place: list(found) for place, found in groupby(sorted(planned, key=_place), _place)}
    blocks = [
        found[first : first + _MOST_IN_A_ROW]
        for found in by_place.values()
        for first in range(0, len(found), _MOST_IN_A_ROW)
    ]
    chosen.shuffle(blocks)
    return [fault for block in blocks for fault in block]


def _place(fault: Fault) -> Place:
    return fault.place


@contextmanager
def staged(scratch: Path, disk: Path, roles: Collection[str], settings: dict[str, str]) -> Iterator[Scene]:
    """Have a stack of its own with all that the faults need, and a recording."""
    places = {ROLES[role].place for role in roles}
    with ExitStack() as exits:
        home = scratch / "home"
        home.mkdir()
        stack = exits.enter_context(running_stack(home, PYAMA_MAX_JOBS="1", **settings))
        clients: dict[Place, Client] = {"local": stack.client}
        dask = None
        if "dask" in places:
            environment = {name: stack.environment[name] for name in ("PREFECT_API_URL", "PREFECT_HOME", "PATH")}
            dask = exits.enter_context(DaskCluster(scratch, environment))
            clients["dask"] = exits.enter_context(stack.another_api(PYAMA_DASK_ADDRESS=dask.address))
        if "timed" in places:
            clients["timed"] = exits.enter_context(stack.another_api(PYAMA_JOB_TIMEOUT=str(_TIMEOUT_S)))
        recording = write_film(scratch / "film.nd2", N_FOVS, N_FRAMES)
        yield Scene(stack, clients, dask, recording, disk)


class Suite:
    """Faults in a scene, one after another.

    Parameters
    ----------
    report
        File that the report is written to after each fault; None for none.
    """

    def __init__(self, scene: Scene, seed: int, report: Path | None = None) -> None:
        self._scene, self._seed, self._report = scene, seed, report
        self._began_s = time.monotonic()
        self.struck: list[Struck] = []

    def run(self, faults: Iterable[Fault]) -> None:
        """Strike, tell, and go on."""
        for number, fault in enumerate(faults):
            chosen = random.Random(f"{self._seed}-{number}")
            struck = Struck(number, fault.role, 0.0, "", "", 0.0, [], [])
            self.struck.append(struck)
            try:
                self._strike(fault, struck, chosen)
            except Exception as error:  # whatever it is, the next fault can be told apart from it
                struck.problems.append(f"{type(error).__name__}: {error}")
                self._abandon()
            except KeyboardInterrupt:
                self.struck.pop()
                print("interrupted", flush=True)
                break
            self._note(struck)
        if self.struck and self._scene.job is not None:
            try:
                self._complete()
            except Exception as error:
                self.struck[-1].problems.append(f"{type(error).__name__}: {error}")
            self._write()

    @property
    def failed(self) -> list[Struck]:
        """Those after which something was not as it has to be."""
        return [struck for struck in self.struck if struck.problems]

    @property
    def computing(self) -> float:
        """Share of the faults that struck while FOVs were computed."""
        return sum(struck.computing for struck in self.struck) / max(len(self.struck), 1)

    def table(self) -> str:
        """Faults by role."""
        lines = [f"{'role':<20} faults computing failures  no process, most  settled, median and most (s)"]
        for role in sorted({struck.role for struck in self.struck}):
            found = [struck for struck in self.struck if struck.role == role]
            settled = [struck.settled_s for struck in found]
            lines.append(
                f"{role:<20} {len(found):6d} {sum(struck.computing for struck in found):9d} "
                f"{sum(bool(struck.problems) for struck in found):8d} {max(struck.lied_s for struck in found):17.1f} "
                f"{statistics.median(settled):18.1f} {max(settled):9.1f}"
            )
        lines.append(
            f"{'all':<20} {len(self.struck):6d} {sum(struck.computing for struck in self.struck):9d} "
            f"{len(self.failed):8d}   ({self.computing:.0%} while FOVs were computed)"
        )
        return "\n".join(lines)

    def _strike(self, fault: Fault, struck: Struck, chosen: random.Random) -> None:
        scene = self._scene
        moment = self._reach(fault, chosen)
        job = scene.current
        struck.seconds_into_suite = time.monotonic() - self._began_s
        struck.job, struck.status, struck.percentage, struck.fovs = (
            job.id,
            moment.status,
            moment.percentage,
            moment.fovs,
        )
        began_s = time.monotonic()
        struck.victims = fault.strike(scene, chosen)
        struck.lied_s = scene.settle()
        struck.settled_s = time.monotonic() - began_s
        struck.became = job.last["status"]
        if struck.became in ENDED:
            self._go_on(chosen.random() < 0.5)
        self._blame(job)

    def _reach(self, fault: Fault, chosen: random.Random) -> Moment:
        """Bring about the moment at which a fault is to strike."""
        scene = self._scene
        if scene.job is not None and (scene.job.place != fault.place or fault.phase == "starting"):
            self._begin_anew(fault.place)
        if scene.job is None:
            scene.start(fault.place)
        if fault.phase == "starting":
            time.sleep(chosen.uniform(0.0, _LONGEST_START_S))
            return scene.look()
        delay_s = chosen.uniform(0.0, _LONGEST_DELAY_S)
        for _ in range(3):
            moment = self._until(fault)
            time.sleep(delay_s)
            moment = scene.look()
            if moment.computing:
                break
        return moment

    def _until(self, fault: Fault) -> Moment:
        """Wait until FOVs are computed, where it matters the last one; with another job where this one ends."""
        scene = self._scene
        end_s = time.monotonic() + COMPUTING_WITHIN_S
        while True:
            moment = scene.look()
            progress = scene.current.last["progress"] if scene.current.told else {"current_fov": 0, "total_fovs": 0}
            at_last = 0 < progress["total_fovs"] <= progress["current_fov"] + 1
            if moment.computing and (fault.phase != "finishing" or at_last):
                return moment
            if moment.status in ENDED:
                scene.settle()
                self._go_on(by_hand=False)
                if scene.job is None:
                    scene.start(fault.place)
            assert time.monotonic() < end_s, f"no FOV is computed: {scene.current.told[-1:]}"
            time.sleep(_LOOK_INTERVAL_S)

    def _go_on(self, by_hand: bool) -> None:
        """Hold a job that has ended to what it should have left; have it tried again where it was not completed."""
        scene = self._scene
        job = scene.current
        scene.check_end()
        self._blame(job)
        if job.last["status"] == "completed":
            scene.leave()
        elif by_hand and job.place != "timed" and job.last["status"] == "failed":
            # Not where it was cancelled: Prefect's worker takes some seconds to do so, and undoes what comes before.
            scene.try_again_by_hand()
        else:
            place: Place = "local" if job.place == "timed" else job.place
            scene.start(place)

    def _begin_anew(self, place: Place) -> None:
        """Have another job go on with the folder, at another place."""
        scene = self._scene
        with suppress(AssertionError):  # it has ended by itself
            scene.stack.client.cancel(scene.current.id)
        scene.wait(lambda: scene.look().status in ENDED, "the job ends", COMPUTING_WITHIN_S)
        scene.settle()
        job = scene.current
        scene.check_end()
        self._blame(job)
        if scene.current.last["status"] == "completed":
            scene.leave()
        scene.start(place)

    def _complete(self) -> None:
        """Have the job end well."""
        scene = self._scene
        for _ in range(5):
            scene.wait(lambda: scene.look().status in ENDED, "the job ends", 600.0)
            scene.settle()
            self._go_on(by_hand=False)
            if scene.job is None:
                return
        raise AssertionError("the job does not come to a good end")

    def _blame(self, job: Job) -> None:
        """Take note, with the fault whose turn it is, of what was found wrong with a job since the one before."""
        self.struck[-1].problems += job.problems
        job.problems.clear()

    def _abandon(self) -> None:
        """Leave a job that cannot be judged, so that the next fault has a new one."""
        scene = self._scene
        if scene.job is None:
            return
        self._blame(scene.job)
        try:
            scene.stack.client.cancel(scene.current.id)
            scene.settle()
        except Exception as error:
            print(f"     the job could not be cancelled: {error}", flush=True)
        scene.leave()

    def _note(self, struck: Struck) -> None:
        print(struck, flush=True)
        self._write()

    def _write(self) -> None:
        if self._report is not None:
            content: dict[str, Any] = {
                "seed": self._seed,
                "faults": len(self.struck),
                "computing": self.computing,
                "failures": len(self.failed),
                "seconds": time.monotonic() - self._began_s,
                "struck": [asdict(struck) for struck in self.struck],
            }
            self._report.write_text(json.dumps(content, indent=1) + "\n")


def usable_faults(*, small_disk: bool) -> list[Fault]:
    """All faults for which there is what they need."""
    return [fault for fault in FAULTS if small_disk or not fault.needs_small_disk]
