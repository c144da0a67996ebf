"""LightGBM on the inputs of a model: the same rows, the same columns, the same metric. Needs numpy, scipy, lightgbm.

The model m and its labelled rows, table task_rows (id, as_of, label, split), stand in a running server; rows and inputs
are read with COPY. Binary inputs are of fixed size once NULL is NaN, so that numpy reads them in one piece.
Prints one JSON object: both metrics on the test rows, and the standard error of their difference, from draws of whole
clusters (what errors go together by: an entity's rows, an owner's posts).
"""
import argparse
import json
import subprocess
import time

import lightgbm
import numpy as np

ROUNDS, PATIENCE, DRAWS = 2000, 50, 200
PARAMETERS = {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 0.7, "verbose": -1}
OBJECTIVES = {"auroc": {"objective": "binary", "metric": "auc"}, "mae": {"objective": "l1", "metric": "l1"}}


class Server:
    """psql of a private server (test/server)."""

    def __init__(self, name):
        self.command = ["test/server", "psql", name, "-qAtX", "-v", "ON_ERROR_STOP=1"]

    def ask(self, query):
        return subprocess.run([*self.command, "-c", query], check=True, capture_output=True, text=True).stdout

    def copy(self, query, dtype):
        """Rows of a query whose columns are those of dtype, all NOT NULL and of fixed size."""
        out = subprocess.run([*self.command, "-c", f"COPY ({query}) TO STDOUT (FORMAT binary)"], check=True,
                             capture_output=True).stdout
        fields = [("n", ">i2")]
        for name, kind, n in dtype:
            fields.append((name + "_size", ">i4"))
            if n:  # an array: dimensions, flags, type, length, first subscript, then each element behind its size
                fields += [(name + "_head", ">i4", 5), (name, [("size", ">i4"), ("value", kind)], n)]
            else:
                fields.append((name, kind))
        record = np.dtype(fields)
        rows = np.frombuffer(out, record, count=(len(out) - 21) // record.itemsize, offset=19)
        if (len(out) - 21) % record.itemsize or (len(rows) and (rows["n"] != len(dtype)).any()):
            raise ValueError("the copied rows are not of one size")
        return {name: (rows[name]["value"] if n else rows[name]).astype(kind[1:]) for name, kind, n in dtype}


def labelled(args, split):
    """Arguments of a function over the rows of a split."""
    query = f'SELECT id AS "{args.key}", as_of, label FROM task_rows WHERE split = \'{split}\''
    return f"'m', $${query}$$, '{args.regime}'"


def read_rows(server, args, split, columns):
    """Inputs and labels of a split, in an order of their own: the same for the model's predictions."""
    return server.copy(
        f"SELECT r.id::int4, extract(epoch FROM i.as_of)::float8, ({args.cluster})::int4, r.label::float8,"
        f" array_replace(i.input, NULL, 'NaN'::float4)"
        f" FROM moe_ml.inputs({labelled(args, split)}) AS i"
        f" JOIN task_rows AS r ON r.id = i.key::int4 AND r.as_of = i.as_of::timestamp AND r.split = '{split}'"
        f" ORDER BY i.as_of, r.id",
        [("id", ">i4", 0), ("as_of", ">f8", 0), ("cluster", ">i4", 0), ("label", ">f8", 0), ("x", ">f4", columns)])


def read_predictions(server, args, split):
    return server.copy(
        f"SELECT key::int4, extract(epoch FROM as_of)::float8, prediction FROM moe_ml.predictions({labelled(args, split)})"
        f" ORDER BY as_of, key::int4", [("id", ">i4", 0), ("as_of", ">f8", 0), ("prediction", ">f8", 0)])


def auroc(score, label, weight):
    """The weighted share of pairs in order, ties half."""
    _, place = np.unique(score, return_inverse=True)
    positive = np.bincount(place, weight * label)
    negative = np.bincount(place, weight * (1 - label))
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / (positive.sum() * negative.sum()))


def mae(score, label, weight):
    return float((weight * np.abs(score - label)).sum() / weight.sum())


METRICS = {"auroc": auroc, "mae": mae}


def train(rows, args, seed):
    """One fit, stopped by the validation rows."""
    sets = [lightgbm.Dataset(rows[s]["x"], rows[s]["label"], params={"verbose": -1}) for s in ("train", "validation")]
    parameters = {**PARAMETERS, **OBJECTIVES[args.metric], "seed": seed, "num_threads": args.threads}
    began = time.perf_counter()
    booster = lightgbm.train(parameters, sets[0], ROUNDS, valid_sets=sets[1:],
                             callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)])
    return booster, time.perf_counter() - began


def difference(args, label, cluster, ours, theirs):
    """Metric of ours less the mean of theirs, and its standard error over draws of clusters."""
    metric = METRICS[args.metric]

    def measure(weight):
        return metric(ours, label, weight) - np.mean([metric(t, label, weight) for t in theirs])

    _, member = np.unique(cluster, return_inverse=True)
    n, random = member.max() + 1, np.random.default_rng(1)
    draws = [measure(np.bincount(random.integers(0, n, n), minlength=n)[member].astype(float)) for _ in range(DRAWS)]
    return measure(np.ones(len(label))), float(np.nanstd(draws, ddof=1))


def gains(server, boosters, most):
    """The columns that reduced the loss most, with their shares."""
    gain = np.mean([b.feature_importance("gain") for b in boosters], axis=0)
    names = json.loads(server.ask("SELECT json_agg(name ORDER BY number) FROM moe_ml.input_names('m')"))
    return {names[i]: round(float(gain[i] / gain.sum()), 4) for i in np.argsort(-gain)[:most]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--metric", choices=METRICS, required=True)
    parser.add_argument("--key", default="id", help="the key's name in the entity's table")
    parser.add_argument("--regime", choices=["rolling", "frozen"], default="rolling")
    parser.add_argument("--cluster", default="r.id", help="SQL, of a row r of task_rows: what errors go together by")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gains", type=int, default=10, help="how many columns to name")
    parser.add_argument("--note", default="{}", help="JSON to print along")
    parser.add_argument("--save", help="keep rows and predictions in this file (.npz)")
    args = parser.parse_args()
    server, metric = Server(args.server), METRICS[args.metric]
    columns = int(server.ask("SELECT count(*) FROM moe_ml.input_names('m')"))
    rows = {s: read_rows(server, args, s, columns) for s in ("train", "validation", "test")}
    test, said = rows["test"], read_predictions(server, args, "test")
    if not (np.array_equal(test["id"], said["id"]) and np.array_equal(test["as_of"], said["as_of"])):
        raise ValueError("predictions and inputs are not about the same rows")
    ours, one = said["prediction"], np.ones(len(test["label"]))

    boosters, seconds = zip(*(train(rows, args, seed) for seed in range(1, args.seeds + 1)))
    theirs = [b.predict(test["x"]) for b in boosters]
    each = [metric(t, test["label"], one) for t in theirs]
    value, error = difference(args, test["label"], test["cluster"], ours, theirs)
    if args.save:
        np.savez(args.save, ours=ours, theirs=np.array(theirs), **test)
    print(json.dumps({
        "benchmark": "lightgbm", "dataset": args.dataset, "task": args.task, "regime": args.regime,
        "metric": args.metric, "moe_ml": round(metric(ours, test["label"], one), 4), "lightgbm": round(float(np.mean(each)), 4),
        "lightgbm_spread": round(float(np.std(each, ddof=1)), 4) if len(each) > 1 else None,
        "lightgbm_averaged": round(metric(np.mean(theirs, axis=0), test["label"], one), 4),
        "difference": round(value, 4), "standard_error": round(error, 4),
        "rows": {s: len(r["label"]) for s, r in rows.items()}, "clusters": len(np.unique(test["cluster"])), "columns": columns,
        "lightgbm_seconds": round(float(np.mean(seconds)), 1), "rounds": [b.best_iteration for b in boosters],
        "gains": gains(server, boosters, args.gains), **json.loads(args.note)}), flush=True)


if __name__ == "__main__":
    main()
