"""Work on many files on a Dask cluster: the same as `mclip.formats.pool`, on machines that the user has.

Every worker must have this version of mclip and see the files under the same paths as this process. What a worker that
dies was working on goes to another one; a file that ended several of them (Dask's `allowed-failures`) is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from mclip import __version__
from mclip.errors import AssetError, UsageError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Enough for a large cluster, little enough for the memory that results wait in.
_UNDER_WAY = 1024
_TIMEOUT_S = 20
_GONE = "start it again and run this again: what was finished is kept"


def run_cluster(
    work: Callable[[Job], Result], jobs: Iterable[Job], address: str
) -> Iterator[tuple[Job, Result | None]]:
    """Each job with what `work`, a function of a module, makes of it, in any order.

    A job that ends its workers has None. What `work` raises is raised here.
    Raises AssetError without Dask, UsageError where no scheduler answers at the address or it has no fit workers.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
        from distributed.client import FutureCancelledError
    except ModuleNotFoundError as error:
        raise AssetError(f"--dask needs the package {error.name}", 'pip install "mclip[dask]"') from None
    try:
        client = Client(address, timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # TypeError: tls:// without its certificates
        raise UsageError(f"{address}: no Dask scheduler answers there ({error})", "dask scheduler starts one") from None
    with client:
        _check_workers(client, address)
        waiting, running = iter(jobs), dict[Any, Job]()
        completed = as_completed(loop=client.loop)
        try:
            while True:
                for job in islice(waiting, _UNDER_WAY - len(running)):
                    future = client.submit(work, job, pure=False)
                    running[future] = job
                    completed.add(future)
                if not running:
                    return
                future = next(completed)
                job = running.pop(future)
                try:
                    result = future.result()
                except KilledWorker:
                    yield job, None
                else:
                    yield job, result
        except (FutureCancelledError, OSError) as error:
            raise UsageError(f"{address}: the Dask cluster went away ({type(error).__name__})", _GONE) from None
        finally:
            client.cancel(list(running))


def _check_workers(client: Any, address: str) -> None:
    """Raise UsageError unless there are workers that have this version of mclip."""
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT_S)
        versions = set(client.run(_version).values())
    except TimeoutError:
        raise UsageError(f"{address}: the Dask cluster has no workers", f"dask worker {address}") from None
    except ImportError as error:
        raise UsageError(f"{address}: its workers have no mclip ({error})", "install it where they run") from None
    if versions != {__version__}:
        others = ", ".join(sorted(versions - {__version__}))
        raise UsageError(f"{address}: its workers have mclip {others}, here it is {__version__}", "install the same")


def _version() -> str:
    return __version__
