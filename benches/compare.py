"""The workloads of compare.rs in Python's multiprocessing: prints one figure."""

import multiprocessing as mp
import os
import sys
import time

ITEMS, JOBS, ROUND_TRIPS, SPAWNS = 100_000, 40_000, 10_000, 20


def produce(queue, start, count):
    start.wait()
    for n in range(count):
        queue.put(n)


def consume(queue, count):
    for _ in range(count):
        queue.get()


def work(jobs):
    while True:
        jobs.get()
        jobs.task_done()


def echo_queues(there, back):
    while (n := there.get()) is not None:
        back.put(n)


def echo_pipe(connection):
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        pass


def swallow(connection, count):
    for _ in range(count):
        connection.recv_bytes()
    connection.send(0)


def wait(started, end):
    started.release()
    end.wait()


def value(queue):
    queue.put(7)


def rate(count, since):
    return count / (time.perf_counter() - since) / 1e6


def each(count, since):
    return (time.perf_counter() - since) / count * 1e6


def round_trips(send, receive):
    send(0), receive()
    since = time.perf_counter()
    for n in range(ROUND_TRIPS):
        send(n)
        receive()
    return each(ROUND_TRIPS, since)


def queue(maxsize=0):
    q, start = mp.Queue(maxsize), mp.Event()
    consumer = mp.Process(target=consume, args=(q, ITEMS))
    producer = mp.Process(target=produce, args=(q, start, ITEMS))
    consumer.start(), producer.start()
    since = time.perf_counter()
    start.set()
    consumer.join()
    figure = rate(ITEMS, since)
    producer.join()
    return figure


def jobs():
    q, start = mp.JoinableQueue(), mp.Event()
    for _ in range(4):
        mp.Process(target=work, args=(q,), daemon=True).start()
    producers = [mp.Process(target=produce, args=(q, start, JOBS // 4)) for _ in range(4)]
    for producer in producers:
        producer.start()
    since = time.perf_counter()
    start.set()
    for producer in producers:
        producer.join()
    q.join()
    return rate(JOBS, since)


def queue_pair():
    there, back = mp.Queue(), mp.Queue()
    process = mp.Process(target=echo_queues, args=(there, back))
    process.start()
    figure = round_trips(there.put, back.get)
    there.put(None)
    process.join()
    return figure


def pipe():
    ours, theirs = mp.Pipe()
    process = mp.Process(target=echo_pipe, args=(theirs,), daemon=True)
    process.start()
    return round_trips(ours.send, ours.recv)


def payload(size, count):
    ours, theirs = mp.Pipe()
    process = mp.Process(target=swallow, args=(theirs, count))
    process.start()
    data = b"\7" * size
    since = time.perf_counter()
    for _ in range(count):
        ours.send_bytes(data)
    ours.recv()
    figure = rate(size * count, since) / 1e3
    process.join()
    return figure


def swallow_items(queue, done, count):
    for _ in range(count):
        queue.get()
    done.put(0)


def items(size, count):
    queue, done = mp.Queue(8), mp.Queue()
    process = mp.Process(target=swallow_items, args=(queue, done, count))
    process.start()
    data = b"\7" * size
    since = time.perf_counter()
    for _ in range(count):
        queue.put(data)
    done.get()
    figure = rate(size * count, since) / 1e3
    process.join()
    return figure


def own_memory(process):
    with open(f"/proc/{process.pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def memory():
    started, end = mp.Semaphore(0), mp.Event()
    processes = [mp.Process(target=wait, args=(started, end)) for _ in range(8)]
    for process in processes:
        process.start()
    for _ in processes:
        started.acquire()
    figure = sum(map(own_memory, processes)) / len(processes)
    end.set()
    for process in processes:
        process.join()
    return figure


def descriptors():
    def count():
        return len(os.listdir("/proc/self/fd"))

    # One-time costs of the first process do not count.
    first = mp.Process(target=value, args=(mp.SimpleQueue(),))
    first.start(), first.join()
    started, end = mp.Semaphore(0), mp.Event()
    before = count()
    processes = [mp.Process(target=wait, args=(started, end)) for _ in range(8)]
    for process in processes:
        process.start()
    figure = (count() - before) / len(processes)
    end.set()
    for process in processes:
        process.join()
    return figure


def spawn():
    since = time.perf_counter()
    for _ in range(SPAWNS):
        q = mp.SimpleQueue()
        process = mp.Process(target=value, args=(q,))
        process.start()
        q.get()
        process.join()
    return each(SPAWNS, since) / 1e3


if __name__ == "__main__":
    # The start method that executes a new program, like offspring.
    mp.set_start_method("spawn")
    print({
        "queue": queue,
        "bounded": lambda: queue(64),
        "jobs": jobs,
        "queue_pair": queue_pair,
        "pipe": pipe,
        "mib": lambda: payload(1 << 20, 200),
        "mib64": lambda: payload(64 << 20, 4),
        "mib_items": lambda: items(1 << 20, 200),
        "spawn": spawn,
        "memory": memory,
        "descriptors": descriptors,
    }[sys.argv[1]]())
