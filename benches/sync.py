"""Python's side of the comparison of locks: prints one number."""

import sys
import time
from multiprocessing import BoundedSemaphore, Event, Lock, Process, Queue, Value, shared_memory

PAIRS = 1_000_000
INCREMENTS = 200_000
GIB = 1 << 30


def pairs(lock):
    start = time.perf_counter()
    for _ in range(PAIRS):
        lock.acquire()
        lock.release()
    return PAIRS / (time.perf_counter() - start) / 1e6


def increment(value, start):
    start.wait()
    for _ in range(INCREMENTS):
        with value.get_lock():
            value.value += 1


def counter():
    value, start = Value("Q", 0), Event()
    processes = [Process(target=increment, args=(value, start)) for _ in range(2)]
    for process in processes:
        process.start()
    time.sleep(0.2)
    began = time.perf_counter()
    start.set()
    for process in processes:
        process.join()
    elapsed = time.perf_counter() - began
    assert value.value == 2 * INCREMENTS
    return 2 * INCREMENTS / elapsed / 1e6


def attach(names, answers):
    name = names.get()
    memory = shared_memory.SharedMemory(name=name)
    answers.put(memory.buf[0] + memory.buf[GIB - 1])
    memory.close()


def share():
    names, answers = Queue(), Queue()
    process = Process(target=attach, args=(names, answers))
    process.start()
    memory = shared_memory.SharedMemory(create=True, size=GIB)
    memory.buf[0] = 3
    memory.buf[GIB - 1] = 4
    time.sleep(0.2)
    began = time.perf_counter()
    names.put(memory.name)
    assert answers.get() == 7
    elapsed = time.perf_counter() - began
    process.join()
    memory.close()
    memory.unlink()
    return elapsed * 1e3


if __name__ == "__main__":
    work = {
        "lock": lambda: pairs(Lock()),
        "semaphore": lambda: pairs(BoundedSemaphore(1)),
        "counter": counter,
        "share": share,
    }
    print(work[sys.argv[1]]())
