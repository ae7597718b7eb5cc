"""A process that does one piece of work when told: `python -m benchmarks.worker ROW SIDE THREADS`.

One process per side, because two thread pools in one process wait for work by spinning and slow
each other down. It reads repetitions from stdin, a line each, and answers with seconds.
"""

import sys
import time

from threadpoolctl import threadpool_limits

from benchmarks.work import WORK


def main(row: str, side: str, threads: int) -> None:
    """Prepare the work, then answer until stdin ends."""
    run = WORK[row][side]()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    with threadpool_limits(threads):
        for line in sys.stdin:
            start = time.perf_counter()
            run(int(line))
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
