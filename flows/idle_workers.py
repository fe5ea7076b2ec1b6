"""Where a run has fewer FOVs than its cluster has threads, the idle ones take frames."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import distributed

from flows.crew import Workers
from flows.stopping import refuse_if_abandoned, watch_this_task
from tasks.fov import Helpers


@contextmanager
def idle_workers(n_threads: int, workers: Workers) -> Iterator[Helpers | None]:
    """Have the workers of a cluster help the task that calls this with the frames of its FOV.

    Parameters
    ----------
    n_threads
        Threads that compute for the run; 0 for no help.
    workers
        Workers that they belong to.
    """
    if n_threads == 0:
        yield None
    elif distributed.get_worker().state.nthreads == n_threads:
        # All are in this process, where frames need not go by way of the scheduler; that costs milliseconds each time.
        yield Helpers(_threads(n_threads), n_threads, watch_this_task())
    else:
        # Within the block this task does not count as one that keeps a worker busy.
        with distributed.worker_client() as client:
            executor = client.get_executor(pure=False, workers=None if workers is None else list(workers))
            yield Helpers(executor, n_threads, refuse_if_abandoned)


@lru_cache(maxsize=1)
def _threads(n: int) -> ThreadPoolExecutor:
    """Threads that the FOVs of this process share, so that no more compute at once than there are processors."""
    return ThreadPoolExecutor(n, thread_name_prefix="frames")
