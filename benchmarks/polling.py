"""How fast the API tells the status of a job while many clients ask for it: `python -m benchmarks.polling --help`.

The whole one-machine stack runs on free ports. It computes a job, and clients ask for its status at fixed intervals,
each over a connection of its own that it keeps: each at a moment of its own, as it happens, or all at the same moment,
which is the worst that can happen. All clients are in one process, and what they wait for each other counts. On a
machine that is busy with other things, only the processor time of the API says much.
"""

import argparse
import asyncio
import os
import tempfile
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked, is_computing, running_stack

N_FOVS, N_FRAMES = 16, 8000
PERCENTILES = (50, 90, 99, 99.9)


def main() -> None:
    """Measure and print the percentiles of the latency, while a job computes and while none does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.polling", description=__doc__)
    parser.add_argument("--clients", type=int, default=100, help="clients (default 100)")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two questions (default 2)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each measurement takes (default 30)")
    parser.add_argument("--jobs", type=int, default=1, help="jobs that compute and are asked for (default 1)")
    parser.add_argument("--workers", type=int, default=None, help="threads of each job (default: the processors)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name)) as stack:
        recording = write_recording(Path(name) / "film.nd2", film(N_FOVS, N_FRAMES))
        workers = {} if options.workers is None else {"n_workers": options.workers}
        jobs = [
            stack.client.start(asked(recording, Path(name) / f"out_{number}", keep="none", **workers))
            for number in range(options.jobs)
        ]
        for job_id in jobs:
            stack.client.watch(job_id, is_computing)
        for together in (False, True):
            report("while computing", together, measure(stack, jobs, options, together=together))
        for job_id in jobs:
            last = stack.client.status(job_id)
            if last["status"] == "running":
                stack.client.cancel(job_id)
                stack.client.finish(job_id)
            print(f"job {job_id}: {last['status']}, {last['progress']['percentage']} % when the measurement ended")
        for together in (False, True):
            report("afterwards", together, measure(stack, jobs, options, together=together))


def measure(
    stack: RunningStack, jobs: list[str], options: argparse.Namespace, *, together: bool
) -> NDArray[np.float64]:
    """Latencies in seconds, of clients that ask at moments of their own or all together."""
    api = stack.program("uvicorn", "api.main:app")
    with get_context("spawn").Pool(1) as pool:
        spread_s = 0.0 if together else options.interval
        arguments = (stack.api_url, jobs, options.clients, options.interval, spread_s, options.seconds)
        before_s = _processor_s(api)
        latencies_s = np.array(pool.apply(_ask_all, arguments))
        each_s = (_processor_s(api) - before_s) / len(latencies_s)
        print(f"{each_s * 1e6:.0f} µs of the API's processor time for each answer; ", end="")
        return latencies_s


def _processor_s(pid: int) -> float:
    """Processor time that a process has taken."""
    user, system = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def report(when: str, together: bool, latencies_s: NDArray[np.float64]) -> None:
    """Print the percentiles."""
    told = ", ".join(f"p{p:g} {np.percentile(latencies_s, p) * 1000:.1f} ms" for p in PERCENTILES)
    how = "all together" if together else "spread"
    print(f"{when}, {how}: {len(latencies_s)} answers, {told}, most {latencies_s.max() * 1000:.1f} ms", flush=True)


def _ask_all(
    url: str, jobs: list[str], n_clients: int, interval_s: float, spread_s: float, seconds: float
) -> list[float]:
    return asyncio.run(_gather(url, jobs, n_clients, interval_s, spread_s, seconds))


async def _gather(
    url: str, jobs: list[str], n_clients: int, interval_s: float, spread_s: float, seconds: float
) -> list[float]:
    latencies_s: list[float] = []
    clients = (
        _ask(url, jobs[number % len(jobs)], number / n_clients * spread_s, interval_s, seconds, latencies_s)
        for number in range(n_clients)
    )
    await asyncio.gather(*clients)
    return latencies_s


async def _ask(
    url: str, job_id: str, delay_s: float, interval_s: float, seconds: float, latencies_s: list[float]
) -> None:
    """Ask at fixed moments, by a plain socket, so that the client costs little."""
    host, port = url.removeprefix("http://").split(":")
    question = (
        f"GET /api/v1/processing/workflow/status/{job_id} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: */*\r\n\r\n"
    ).encode()
    began_s = perf_counter()
    reader, writer = await asyncio.open_connection(host, int(port))
    due_s = began_s + delay_s
    while due_s < began_s + seconds:
        await asyncio.sleep(max(0.0, due_s - perf_counter()))
        asked_s = perf_counter()
        writer.write(question)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies_s.append(perf_counter() - asked_s)
        due_s += interval_s
    writer.close()


if __name__ == "__main__":
    main()
