"""Writes a small, known FOV; run as a program, it does so in children that may be killed at a chosen moment.

One line of JSON on the standard input is one job; the child's number is printed when it begins, and its wait
status when it has ended. The program has one thread and has imported everything, so that children begin at once.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tasks.configuration import WorkflowRequest
from tasks.output import (
    FovDirectory,
    InputFile,
    OutputLock,
    Provenance,
    ensure_folder,
    parameter_fingerprint,
    prepare_folder,
    write_index,
)
from tasks.output.fingerprint import Fingerprint, canonical_parameters

SHAPE = (6, 40, 50)


def make_request(output_dir: Path, **parameters: Any) -> WorkflowRequest:
    return WorkflowRequest.parse(
        microscopy_path="/data/film.nd2",
        output_dir=str(output_dir),
        channels={"phase": {"channel": 0}, "fluorescence": [{"channel": 1}]},
        parameters=parameters,
    )


def make_provenance(*, recording: str = "film.nd2", content: str = "a", **parameters: Any) -> Provenance:
    configuration = make_request(Path("/out"), **parameters).configuration()
    return Provenance(
        Fingerprint(content * 64, parameter_fingerprint(configuration)),
        InputFile(recording, 12_345_678, {"P": 2, "T": SHAPE[0], "Z": 1, "C": 2, "Y": SHAPE[1], "X": SHAPE[2]}),
        canonical_parameters(configuration),
    )


def frames(fov: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng([seed, fov]).integers(0, 60_000, SHAPE, dtype=np.uint16)


def write_fov(output_dir: Path, fov: int, provenance: Provenance, *, replace: bool = False, pause: float = 0) -> bool:
    """Write phase, background and traces of a FOV; `pause` seconds between the frames."""
    pixels = frames(fov)
    with FovDirectory(output_dir, fov, provenance, replace=replace) as directory:
        phase = directory.stack(directory.layout.phase(0), SHAPE, "uint16")
        background = directory.stack(directory.layout.background(1), SHAPE, "float32")
        for t, frame in enumerate(pixels):
            phase.write(t, frame)
            background.write(t, frame.astype(np.float32) / 3)
            threading.Event().wait(pause)
        directory.write_text(directory.layout.traces, [f"fov,cell\n{fov},1\n"])
        return directory.commit(n_cells=1, warnings=["one warning"])


def run(output_dir: Path, fovs: list[int], *, run_id: str = "run-1", pause: float = 0, **parameters: Any) -> None:
    """A whole run as a flow makes it."""
    provenance, request = make_provenance(**parameters), make_request(output_dir, **parameters)
    ensure_folder(output_dir)
    with OutputLock(output_dir, run_id):
        finished = prepare_folder(output_dir, provenance, request, fovs)
        for fov in fovs:
            if fov not in finished:
                write_fov(output_dir, fov, provenance, replace=request.parameters.overwrite, pause=pause)
        write_index(output_dir, provenance)


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _kill_at(event_number: int) -> None:
    """Kill this process before its n-th change of the file system."""
    changes = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
    seen = 0

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal seen
        if event in changes:
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _hold(output_dir: Path, run_id: str) -> None:
    with OutputLock(output_dir, run_id):
        (output_dir / "held").touch()
        threading.Event().wait()


def _work(job: dict[str, Any]) -> None:
    kind, output_dir = job.pop("kind"), Path(job.pop("output_dir"))
    if kill_at := job.pop("kill_at", None):
        _kill_at(kill_at)
    if kind == "hold":
        _hold(output_dir, **job)
    elif kind == "run":
        run(output_dir, **job)
    else:
        write_fov(output_dir, job["fov"], make_provenance(**job["parameters"]), replace=True)


def _serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _work(json.loads(line))
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _serve()
