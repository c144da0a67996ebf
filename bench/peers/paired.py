"""moe_ml's program and its peers, timed in turn on the same arrays."""
import json
import os
import subprocess
import time
from statistics import median

import numpy as np

ROUNDS = (5, 40)  # at least, at most
SECONDS = 4.0     # between them: for so long
BATCH = 30.0      # milliseconds that the calls of a turn take, at least


class Program:
    """moe_ml's side: one process that has read its arrays and waits for commands (see kernels.c)."""

    def __init__(self, args, benchmark, arrays, *parameters):
        self.work = args.work
        for name, array in arrays.items():
            np.ascontiguousarray(array).tofile(os.path.join(self.work, name))
        command = [args.binary, benchmark, self.work, str(args.threads), *map(str, parameters)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, command, calls=0):
        """Milliseconds of one of so many calls, after one that does not count: (wall, processor)."""
        self.process.stdin.write(f"{command} {calls}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("peers_kernels ended")
        return tuple(map(float, line.split()))

    def saved(self, name, dtype=np.float32):
        return np.fromfile(os.path.join(self.work, name), dtype)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def timed(call, calls):
    """The same of a call of Python's."""
    call()
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return 1e3 * (time.perf_counter() - began) / calls, 1e3 * (time.process_time() - worked) / calls


def measure(args, program, command, peers):
    """Milliseconds of moe_ml and of each peer {name: call}, in turns of some calls each, the first of which does not count.

    Of wall time the median; on a busy machine the least of processor time, which a thread that waits does not spend.
    """
    sides = {"moe_ml": lambda calls: program.run(command, calls),
             **{name: lambda calls, c=call: timed(c, calls) for name, call in peers.items()}}
    calls = {name: max(1, int(BATCH / side(1)[0] + 1)) for name, side in sides.items()}
    times = {name: [] for name in sides}
    began = time.perf_counter()
    for turn in range(ROUNDS[1]):
        if turn >= ROUNDS[0] and time.perf_counter() - began > SECONDS:
            break
        for name, side in sides.items():
            time.sleep(0.003)  # until the other side's threads have stopped spinning
            times[name].append(side(calls[name]))
    return {name: min(cpu for _, cpu in t) if args.busy else median(wall for wall, _ in t) for name, t in times.items()}


def difference(ours, theirs):
    """Largest difference, relative to the largest value."""
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def report(args, case, times, **more):
    """One line: the case, moe_ml's milliseconds, and each peer's with its ratio to moe_ml's."""
    ours = times["moe_ml"]
    peers = {name: t for name, t in times.items() if name != "moe_ml"}
    if args.json:
        print(json.dumps({"benchmark": "peers", **case, "threads": args.threads,
                          "statistic": "least processor time" if args.busy else "median", "moe_ml_ms": round(ours, 4),
                          "peers_ms": {name: round(t, 4) for name, t in peers.items()},
                          "ratios": {name: round(t / ours, 2) for name, t in peers.items()}, **more}), flush=True)
        return
    cells = "  ".join(f"{name} {t:.3f} ms ({t / ours:.2f} x)" for name, t in peers.items())
    words = " ".join(str(v) for v in case.values())
    print(f"{words:64} moe_ml {ours:9.3f} ms   {cells}" + (f"   {more}" if more else ""), flush=True)
