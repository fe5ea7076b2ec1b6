"""What the orchestrator costs: `python -m benchmarks.orchestration --help`.

A film of tiny images is processed on a real Prefect server, as a flow run with a task run for each FOV, and the same
FOVs without any orchestrator. The difference is the price of history, retries and progress.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.programs import job_for
from tasks.configuration import Channels, FluorescenceChannel, Parameters, PhaseChannel
from tasks.nd2_writer import Channel, Nd2Writer
from tasks.output import ensure_folder
from tests.engines import prefect_server

SIZE = 64
N_FRAMES = 3


def main() -> None:
    """Measure several numbers of FOVs and print the cost of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("--fovs", type=int, nargs="+", default=[50, 100], help="numbers of FOVs (default 50 100)")
    parser.add_argument("--workers", type=int, default=2, help="threads that compute (default 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prefect").mkdir()
        with prefect_server(folder / "prefect") as url:
            os.environ["PREFECT_API_URL"] = url
            for n_fovs in options.fovs:
                recording = write_recording(folder / f"film_{n_fovs}.nd2", n_fovs)
                alone, orchestrated = compute_alone(recording, folder), run_flow(recording, folder, options.workers)
                cost = (orchestrated - alone / options.workers) / n_fovs
                print(f"{n_fovs} FOVs: {orchestrated:.1f} s, computing {alone:.1f} s: {cost:.3f} s more for each FOV")


def write_recording(path: Path, n_fovs: int) -> Path:
    """Noise of two channels."""
    channels = [Channel("Phase", "brightfield"), Channel("GFP", "fluorescence")]
    rng = np.random.default_rng(0)
    with Nd2Writer(path, n_frames=N_FRAMES, n_fovs=n_fovs, channels=channels, height=SIZE, width=SIZE) as writer:
        for frame in range(N_FRAMES):
            for fov in range(n_fovs):
                writer.write_frame(fov, frame, rng.integers(100, 200, (2, SIZE, SIZE)).astype(np.uint16))
    return path


def compute_alone(recording: Path, folder: Path) -> float:
    """Seconds that the FOVs take one after the other, without an orchestrator."""
    output = folder / f"{recording.stem}_alone"
    job, metadata = job_for(recording, output, "all")
    ensure_folder(output)
    start = perf_counter()
    for fov in range(metadata.n_fovs):
        job.run(fov)
    return perf_counter() - start


def run_flow(recording: Path, folder: Path, n_workers: int) -> float:
    """Seconds of the flow run."""
    from flows.process import process_acquisition  # reads the address of the server when it is imported

    channels = Channels(phase=PhaseChannel(channel=0), fluorescence=[FluorescenceChannel(channel=1)])
    output = folder / f"{recording.stem}_run"
    start = perf_counter()
    process_acquisition(str(recording), str(output), channels, Parameters(n_workers=n_workers))
    return perf_counter() - start


if __name__ == "__main__":
    main()
