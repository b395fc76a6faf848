"""The workloads of pool.rs in Python's Pool and ProcessPoolExecutor: prints one figure."""

import multiprocessing as mp
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

MAPPED, SUBMITTED, BUSY_TASKS, WORKERS = 1_000_000, 20_000, 200, 2
BUSY = 0.005


def increment(n):
    return n + 1


def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def rate(count, since):
    return count / (time.perf_counter() - since) / 1e6


def of_ideal(since):
    return BUSY_TASKS * BUSY / WORKERS / (time.perf_counter() - since)


def pool(what):
    with mp.Pool(WORKERS) as pool:
        pool.map(increment, range(1000))
        since = time.perf_counter()
        if what == "map":
            pool.map(increment, range(MAPPED))
            return rate(MAPPED, since)
        if what == "submit":
            results = [pool.apply_async(increment, (n,)) for n in range(SUBMITTED)]
            for result in results:
                result.get()
            return rate(SUBMITTED, since)
        pool.map(busy, [BUSY] * BUSY_TASKS)
        return of_ideal(since)


def executor(what):
    with ProcessPoolExecutor(WORKERS) as executor:
        pids = set(executor.map(pid_of, range(100)))
        since = time.perf_counter()
        if what == "map":
            for _ in executor.map(increment, range(SUBMITTED)):
                pass
            return rate(SUBMITTED, since)
        if what == "submit":
            futures = [executor.submit(increment, n) for n in range(SUBMITTED)]
            for future in futures:
                future.result()
            return rate(SUBMITTED, since)
        if what == "busy":
            list(executor.map(busy, [BUSY] * BUSY_TASKS))
            return of_ideal(since)
        future = executor.submit(time.sleep, 100)
        time.sleep(0.2)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        since = time.perf_counter()
        try:
            future.result()
        except BrokenProcessPool:
            return (time.perf_counter() - since) * 1e3


def pid_of(_):
    return os.getpid()


if __name__ == "__main__":
    print({"pool": pool, "executor": executor}[sys.argv[1]](sys.argv[2]))
