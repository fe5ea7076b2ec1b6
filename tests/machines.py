"""A small network of machines, in network namespaces: a head with Prefect and the run, a Dask scheduler, and workers.

Run as a program in a network namespace, it makes a run there and prints what became of it. The machines share the
storage and nothing else: each has an address of its own and reaches the others by a cable to the head alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep

from tests.engines import DaskProcesses, prefect_server, wait_until, writes_fov
from tests.flow_runs import request, run

HEAD = "10.77.0.1"
WORKERS = ("left", "right")
SHORT_S = 6.0
"""Time without a network that Dask's connections live through."""


class Machine:
    """A machine with an address of its own, connected to the head."""

    def __init__(self, number: int) -> None:
        self.address = f"10.77.0.{number + 1}"
        self._cable = f"cable{number}"
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = self._holder.pid
        own = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: Path(f"/proc/{pid}/ns/net").readlink() != own, "the machine has a network")
        self.launcher = ["nsenter", "--target", str(pid), "--net", "--"]
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", self._cable, "master", "switch", "up")
        _ip("link", "set", "lo", "up", launcher=self.launcher)
        _ip("addr", "add", f"{self.address}/24", "dev", "eth0", launcher=self.launcher)
        _ip("link", "set", "eth0", "up", launcher=self.launcher)

    def unplug(self) -> None:
        """Take the cable out."""
        _ip("link", "set", self._cable, "down")

    def plug_in(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self._cable, "up")

    def end(self) -> None:
        """Give up the machine, once its programs have ended."""
        self._holder.kill()
        self._holder.wait()


@contextmanager
def machines(n: int) -> Iterator[list[Machine]]:
    """Have machines, and the head as this namespace."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "switch", "type", "bridge")
    _ip("addr", "add", f"{HEAD}/24", "dev", "switch")
    _ip("link", "set", "switch", "up")
    with ExitStack() as stack:
        found = []
        for number in range(1, n + 1):
            found.append(Machine(number))
            stack.callback(found[-1].end)
        yield found


def _ip(*arguments: str, launcher: list[str] | None = None) -> None:
    subprocess.run([*(launcher or []), "ip", *arguments], check=True)


def _main(folder: Path, recording: Path, partition: str) -> None:
    """Make a run with a scheduler and two workers on machines of their own, and print what became of it."""
    (folder / "prefect").mkdir()
    (folder / "dask").mkdir()
    # Where Dask has to find out that a machine is gone, it is to take seconds, not half a minute.
    os.environ["DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"] = "12s" if partition == "long" else "30s"
    with machines(1 + len(WORKERS)) as (first, *others), prefect_server(folder / "prefect", HEAD):
        by_name = dict(zip(WORKERS, others, strict=True))
        nothing_of_prefect = {name: None for name in os.environ if name.startswith("PREFECT_")}
        with DaskProcesses(folder / "dask", host=first.address, launcher=first.launcher) as processes:
            for name, machine in by_name.items():
                processes.start_workers(name, environment=nothing_of_prefect, launcher=machine.launcher)
            os.environ["PYAMA_DASK_ADDRESS"] = processes.address

            def disturb() -> None:
                if partition == "none":
                    return
                wait_until(lambda: writes_fov(processes.pid("left")), "the machine is at work")
                by_name["left"].unplug()
                if partition == "short":
                    sleep(SHORT_S)
                    by_name["left"].plug_in()

            with ThreadPoolExecutor() as threads:
                disturbing = threads.submit(disturb)
                ended = run(request(recording, folder / "out", keep="labels"))
                disturbing.result()
            ended.logged("Finished in state " + ("Completed('" if ended.state.is_completed() else "Failed('"))
            lines = [line.message for line in ended.log()]
            addresses = {name: machine.address for name, machine in by_name.items()}
            print(json.dumps({"message": ended.message, "log": lines, "addresses": addresses}))
            # Else its end waits for messages that cannot come.
            by_name["left"].plug_in()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
