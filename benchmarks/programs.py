"""The programs that are measured, each in a process of its own: `python -m benchmarks.programs NAME ...`.

Each warms up on the same work, then measures itself and prints its figures as JSON.
"""

import argparse
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import distributed
import nd2
import numpy as np
from numpy.typing import NDArray

from flows.idle_workers import idle_workers
from tasks.acquisition import RecordingMetadata, open_recording, suggest_channels
from tasks.background import background_pixels, tile_grid
from tasks.bitmask import Bitmask
from tasks.configuration import Configuration, FluorescenceChannel, Keep, ScienceParameters
from tasks.fov_job import FovJob, FovReport
from tasks.output import Provenance, ensure_folder
from tasks.regions import find_regions, measure
from tasks.segmentation import clean, foreground_variance, local_variance
from tasks.tracking import Tracker

ROUNDS = 5
COPIES = 3
"""With a FOV or two for each worker, their starts and ends would count for more than they do in a run."""


def main() -> None:
    """Run one program and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=["floor", "pipeline", "stages", "scaling", "spread"])
    parser.add_argument("recording", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--keep", choices=["all", "labels", "none"], default="all")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    programs: dict[str, Callable[[], dict[str, Any]]] = {
        "floor": partial(floor, options.recording, options.output, options.keep),
        "pipeline": partial(pipeline, options.recording, options.output, options.keep, options.rounds),
        "stages": partial(stages, options.recording),
        "scaling": partial(
            scaling, options.recording, options.output, options.keep, options.workers, options.processes
        ),
        "spread": partial(spread, options.recording, options.output, options.keep, options.workers, options.processes),
    }
    print(json.dumps(programs[options.program]()))


def floor(recording: Path, output: Path, keep: Keep) -> dict[str, Any]:
    """Read FOV 0 with nd2 alone and write as many bytes to as many files as the pipeline does, with fsync.

    Raw images are written as they are read; of the computed stacks only the size matters.
    """
    with nd2.ND2File(recording) as file:
        sizes = dict(file.sizes)
        n_frames, n_channels = sizes["T"], sizes["C"]
        step = sizes.get("P", 1)
        shape = (sizes["Y"], sizes["X"])
        floats, labels = [np.float32] * (n_channels - 1), [np.uint16] * 2
        computed: dict[Keep, list[type[np.generic]]] = {"all": [*floats, *labels], "labels": [*labels], "none": []}
        images: list[NDArray[Any]] = [np.zeros(shape, dtype) for dtype in computed[keep]]

        def run() -> None:
            raw = [(output / f"raw{c}").open("wb") for c in range(n_channels if keep == "all" else 0)]
            rest = [(output / f"computed{i}").open("wb") for i in range(len(images))]
            for t in range(n_frames):
                frame = file.read_frame(t * step).reshape((n_channels, *shape))
                for c in range(n_channels):
                    channel = np.ascontiguousarray(frame[c])
                    if raw:
                        raw[c].write(channel.data)
                for image, stream in zip(images, rest, strict=True):
                    stream.write(image.data)
            for stream in (*raw, *rest):
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()

        return repeated(run, output) | {"n_frames": n_frames}


def pipeline(recording: Path, output: Path, keep: Keep, rounds: int) -> dict[str, Any]:
    """Process FOV 0 as a task of a run does, without the orchestrator."""
    job, metadata = job_for(recording, output, keep)
    before = peak_mb()
    figures = repeated(lambda: job.run(0), output, rounds)
    return figures | {"n_frames": metadata.n_frames, "peak_mb": peak_mb() - before}


def scaling(recording: Path, output: Path, keep: Keep, n_workers: int, processes: bool) -> dict[str, Any]:
    """Process all FOVs, several times over, on a Dask cluster."""
    job, metadata = job_for(recording, output, keep)
    jobs = [replace(job, output_dir=output / str(i)) for i in range(COPIES)]

    def run() -> None:
        for one in jobs:
            ensure_folder(one.output_dir)
        futures = [client.submit(one.run, fov, pure=False) for one in jobs for fov in range(metadata.n_fovs)]
        client.gather(futures)

    with cluster(n_workers, processes) as client:
        return repeated(run, output, rounds=3)


def spread(recording: Path, output: Path, keep: Keep, n_workers: int, processes: bool) -> dict[str, Any]:
    """Process FOV 0 with its frames spread over the workers of a Dask cluster."""
    job, _ = job_for(recording, output, keep)
    n_helpers = n_workers if n_workers > 1 else 0
    with cluster(n_workers, processes) as client:
        return repeated(lambda: client.submit(_run_with_help, job, n_helpers, pure=False).result(), output)


def _run_with_help(job: FovJob, n_threads: int) -> FovReport:
    with idle_workers(n_threads, None) as helpers:
        return job.run(0, helpers=helpers)


def stages(recording: Path) -> dict[str, Any]:
    """Processor seconds per megapixel for each stage of a frame, in memory."""
    with open_recording(recording) as film:
        metadata = film.metadata
        suggested = suggest_channels(metadata).channels()
        phase, fluorescence = suggested.phase.channel, suggested.fluorescence[0].channel
        images = film.read_frame(0, metadata.n_frames // 2)
        image, light = images[phase], images[fluorescence]
        grid = tile_grid(metadata.height, metadata.width)
        variance = local_variance(image)
        bound = foreground_variance(variance)
        raw_mask = Bitmask.at_least(variance, bound)
        mask = clean(raw_mask)
        labelled = find_regions(mask)
        pixels = background_pixels(mask)
        surface = grid.estimate(light, pixels)
        buffer = np.empty(image.shape, np.float32)
        cells = np.arange(1, len(labelled) + 1)

        def link() -> None:
            tracker = Tracker(0.1)
            tracker.link(labelled.regions.boxes)
            tracker.link(labelled.regions.boxes)

        work: dict[str, Callable[[], object]] = {
            "read, all channels": lambda: film.read_frame(0, metadata.n_frames // 2),
            "local variance": lambda: local_variance(image),
            "threshold": lambda: foreground_variance(variance),
            "compare": lambda: Bitmask.at_least(variance, bound),
            "fill, open, close": lambda: clean(raw_mask),
            "label, geometry": lambda: find_regions(mask),
            "background pixels": lambda: background_pixels(mask),
            "tile medians, a channel": lambda: grid.estimate(light, pixels),
            "sums over cells, a channel": lambda: measure(labelled, light, surface),
            "surface image, a channel": lambda: surface.image(buffer),
            "label image": lambda: labelled.paint(cells),
            "link, two frames": link,
        }
        megapixels = metadata.height * metadata.width / 1e6
        return {name: seconds(action) / megapixels for name, action in work.items()}


def job_for(recording: Path, output: Path, keep: Keep) -> tuple[FovJob, RecordingMetadata]:
    """Work on a recording with its suggested channels and the default parameters."""
    with open_recording(recording) as film:
        metadata = film.metadata
    channels = suggest_channels(metadata).channels()
    channels = channels.model_copy(
        update={"fluorescence": [FluorescenceChannel(channel=c.channel) for c in channels.fluorescence]}
    )
    configuration = Configuration(channels=channels, parameters=ScienceParameters(keep=keep))
    provenance = Provenance.of(recording, metadata.sizes, configuration)
    return FovJob(recording, output, configuration, provenance, overwrite=False), metadata


@contextmanager
def cluster(n_workers: int, processes: bool) -> Iterator[distributed.Client]:
    """Start a Dask cluster of threads of this process, or of processes with a thread each."""
    with (
        distributed.LocalCluster(
            n_workers=n_workers if processes else 1,
            threads_per_worker=1 if processes else n_workers,
            processes=processes,
            dashboard_address=None,
            memory_limit=0,
        ) as dask_cluster,
        distributed.Client(dask_cluster) as client,
    ):
        yield client


def repeated(run: Callable[[], object], output: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run once to warm up, then some more times, each into an empty folder.

    Gives the least of each figure, as disturbances only ever add.
    """
    measured = []
    for _ in range(rounds + 1):
        shutil.rmtree(output, ignore_errors=True)
        ensure_folder(output)
        start, before = perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        measured.append({"cpu_s": cpu, "wall_s": perf_counter() - start})
    shutil.rmtree(output)
    return {name: min(figures[name] for figures in measured[1:]) for name in measured[0]}


def seconds(action: Callable[[], object], rounds: int = 15) -> float:
    """Least processor time of a call."""
    action()
    least = float("inf")
    for _ in range(rounds):
        start = process_time()
        action()
        least = min(least, process_time() - start)
    return least


def peak_mb() -> float:
    """Largest memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
