"""What both sides of rel_f1_pyg share: the tasks, the predicted rows, the metric, the clock of stages."""
import argparse
import contextlib
import time

import numpy as np
import psycopg

CUT = "2010-01-01"
TASKS = {  # label table, label column, metric
    "driver-dnf": ("driver_dnf", "did_not_finish", "auroc"),
    "driver-top3": ("driver_top3", "qualifying", "auroc"),
    "driver-position": ("driver_position", "position", "mae"),
}


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--socket", required=True, help="folder of the server's socket")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--split", choices=["val", "test"], default="val", help="the rows to predict")
    return parser


def connect(socket):
    return psycopg.connect(host=socket, user="postgres", dbname="postgres", autocommit=True)


def regimes(split):
    """Validation rows lie before the cut, so that both regimes are one."""
    return ["frozen", "rolling"] if split == "test" else ["rolling"]


def metric(name, label, score):
    """AUROC by ranks, ties shared; or the mean absolute error."""
    label, score = np.asarray(label, float), np.asarray(score, float)
    if name == "mae":
        return float(np.abs(label - score).mean())
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = label.sum()
    return float((rank[label > 0].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def stored_metric(connection, task, split, predictions, regime):
    """The metric of a table of predictions (regime, date, "driverId", prediction), and how many rows it has."""
    table, label, name = TASKS[task]
    rows = connection.execute(
        f'SELECT t."{label}", p.prediction FROM f1_task.{table} AS t JOIN {predictions} AS p USING (date, "driverId")'
        " WHERE t.split = %s AND p.regime = %s", [split, regime]).fetchall()
    labels, scores = zip(*rows)
    return metric(name, labels, scores), len(rows)


class Clock:
    """Seconds by stage."""

    def __init__(self):
        self.seconds = {}

    def add(self, stage, seconds):
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextlib.contextmanager
    def stage(self, stage):
        began = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - began)
