"""A process that does one piece of work when told: `python -m benchmarks.worker ROW SIDE THREADS`.

One process per side, because two thread pools in one process wait for work by spinning and slow
each other down. It reads repetitions from stdin, a line each, and answers with seconds.
"""

import sys
import time

from threadpoolctl import threadpool_limits

from benchmarks.work import WORK, Run


def megabytes_of(run: Run) -> float:
    """By how many 10^6 bytes two steps raise the most memory the process ever had."""
    import resource

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    before = peak()
    run(2)
    return peak() - before


def main(row: str, side: str, threads: int) -> None:
    """Prepare the work, then answer until stdin ends."""
    if side == "fast":  # ours, on the kernels of module 18, which share the work themselves
        from tinytorch.core.acceleration import enable_acceleration

        enable_acceleration(threads)
        threads = 1
    run = WORK[row]["ours" if side == "fast" else side]()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    with threadpool_limits(threads):
        if "--memory" in sys.argv:
            return print(megabytes_of(run))
        for line in sys.stdin:
            start = time.perf_counter()
            run(int(line))
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
