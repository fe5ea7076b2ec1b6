"""How long it takes from the request to the first FOV that computes: `python -m benchmarks.starting --help`.

The whole one-machine stack runs on free ports, and jobs are started one after the other. A FOV computes when its
directory appears in the output folder, under its temporary name.
"""

import argparse
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter, time

import httpx

from tests.engines import wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked, running_stack

N_FOVS, N_FRAMES = 4, 2000


@dataclass(frozen=True)
class Start:
    """Seconds after the request."""

    answered: float
    """The API has answered."""
    running: float
    """The flow runs."""
    computing: float
    """The first FOV computes."""

    def __str__(self) -> str:
        return (
            f"answered after {self.answered:.2f} s, flow running {self.running:.2f} s, "
            f"first FOV computing {self.computing:.2f} s"
        )


def main() -> None:
    """Measure and print each start, and the median of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5, help="jobs to start, one after the other (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name)) as stack:
        recording = write_recording(Path(name) / "film.nd2", film(N_FOVS, N_FRAMES))
        starts = [measure(stack, recording, Path(name) / f"out_{number}") for number in range(options.jobs)]
    middle = sorted(start.computing for start in starts)[len(starts) // 2]
    print(f"first FOV computing: median {middle:.2f} s, most {max(start.computing for start in starts):.2f} s")


def measure(stack: RunningStack, recording: Path, output_dir: Path) -> Start:
    """Start a job, see when it gets how far, and cancel it."""
    began_s, clock_s = perf_counter(), time()
    job_id = stack.client.start(asked(recording, output_dir))
    answered_s = perf_counter()
    wait_until(lambda: any(output_dir.glob(".fov_*")), "a FOV computes", 120)
    computing_s = perf_counter()
    run = httpx.get(f"{stack.prefect_url}/api/flow_runs/{job_id}").json()
    stack.client.cancel(job_id)
    stack.client.finish(job_id)
    start = Start(
        answered=answered_s - began_s,
        running=datetime.fromisoformat(run["start_time"]).timestamp() - clock_s,
        computing=computing_s - began_s,
    )
    print(start, flush=True)
    return start


if __name__ == "__main__":
    main()
