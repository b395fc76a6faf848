"""The workloads of scale.rs in Python's multiprocessing: prints its figures."""

import multiprocessing as mp
import os
import sys
import threading
import time

STRIDE = 16


def idle(queue, here):
    here.release()
    queue.get()


def produce(queue, counts, mine):
    while True:
        queue.put(7)
        counts[mine] += 1


def consume(queue, counts, mine):
    while True:
        queue.get()
        counts[mine] += 1


def ping(there, back, counts):
    while True:
        there.put(7)
        back.get()
        counts[0] += 1


def echo(there, back):
    while True:
        back.put(there.get())


def sleep(here):
    here.release()
    threading.Event().wait()


def start(target, *args):
    process = mp.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def kill(processes):
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def rates(counts, window):
    time.sleep(window / 3)
    before, since = counts[::STRIDE], time.perf_counter()
    time.sleep(window)
    after, seconds = counts[::STRIDE], time.perf_counter() - since
    return [(a - b) / seconds for a, b in zip(after, before)]


def meter(counters):
    return mp.RawArray("Q", counters * STRIDE)


def beside_idle(count, window):
    other, here = mp.Queue(), mp.Semaphore(0)
    crew = [start(idle, other, here) for _ in range(int(count))]
    for _ in crew:
        here.acquire()
    queue, counts = mp.Queue(64), meter(1)
    pair = [start(consume, queue, counts, 0), start(produce, queue, meter(1), 0)]
    stream = rates(counts, float(window))[0]
    kill(pair)
    there, back, counts = mp.Queue(), mp.Queue(), meter(1)
    pair = [start(echo, there, back), start(ping, there, back, counts)]
    trip = 1e6 / rates(counts, float(window))[0]
    kill(pair + crew)
    return stream, trip


def crowd(bound, producers, consumers, window):
    producers, consumers = int(producers), int(consumers)
    queue, puts, gets = mp.Queue(int(bound)), meter(producers), meter(consumers)
    crew = [start(consume, queue, gets, n * STRIDE) for n in range(consumers)]
    crew += [start(produce, queue, puts, n * STRIDE) for n in range(producers)]
    figures = rates(puts if producers > consumers else gets, float(window))
    kill(crew)
    return figures


def own_memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def alive(count):
    def now():
        return [len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), own_memory(os.getpid())]

    here, count = mp.Semaphore(0), int(count)
    crew = [start(sleep, here)]
    before, since = now(), time.perf_counter()
    crew += [start(sleep, here) for _ in range(count)]
    for _ in crew:
        here.acquire()
    elapsed = time.perf_counter() - since
    figures = [(a - b) / count for a, b in zip(now(), before)]
    child = sum(own_memory(process.pid) for process in crew[:20]) / len(crew[:20])
    kill(crew)
    return [elapsed * 1e3 / count, *figures, child]


if __name__ == "__main__":
    # Where starts are not measured, children are forked: hundreds of new interpreters take minutes.
    mp.set_start_method("spawn" if sys.argv[1] == "alive" else "fork")
    print(*{"idle": beside_idle, "crowd": crowd, "alive": alive}[sys.argv[1]](*sys.argv[2:]))
