"""RelBench's reference pipeline on torch and PyG, from PostgreSQL and back; called by bench/peers/rel_f1_pyg.

Reads the tables, builds the graph, trains, keeps the epoch that is best on the validation rows, predicts, writes the
predictions into a table. Prints one JSON object: the time of every stage, the metrics, the peak memory.

frozen: neighbours are drawn as of the cut, whatever the seed time. rolling: as of the seed time.
"""
import copy
import json
import resource
import time

import numpy as np
import torch
import torch_geometric.typing
from torch.nn import functional as F
from torch_geometric import seed_everything
from torch_geometric.loader import NeighborLoader

from rdl_data import build_graph, encode_table, read_tables
from rdl_model import Network
from rel_f1_tasks import CUT, TASKS, Clock, arguments, connect, metric, regimes, stored_metric

ENTITY = "drivers"
NEIGHBORS = [128, 64]
BATCH, MAX_STEPS, CHANNELS, RATE = 512, 2000, 128, 0.005
CUT_SECONDS = int(np.datetime64(CUT, "s").astype(np.int64))


class Rows:
    """The labelled rows of one split: time in seconds, entity row, label."""

    def __init__(self, connection, task, split, position):
        table, label, _ = TASKS[task]
        rows = connection.execute(f'SELECT date, "driverId", "{label}" FROM f1_task.{table} WHERE split = %s',
                                  [split]).fetchall()
        self.date, self.key, labels = zip(*rows)
        self.time = torch.from_numpy(np.array(self.date, "datetime64[s]").astype(np.int64))
        self.entity = torch.tensor([position[key] for key in self.key])
        self.label = torch.tensor(labels, dtype=torch.float32)


class Pipeline:
    def __init__(self, args):
        self.args, self.clock = args, Clock()
        self.metric = TASKS[args.task][2]
        seed_everything(args.seed)
        torch.set_num_threads(args.threads)
        with self.clock.stage("read"):
            self.connection = connect(args.socket)
            tables = read_tables(self.connection, "f1")
        with self.clock.stage("graph"):
            self.data, position = build_graph(tables)
        with self.clock.stage("read"):
            self.train = Rows(self.connection, args.task, "train", position[ENTITY])
            self.validation = Rows(self.connection, args.task, "val", position[ENTITY])
            self.predicted = Rows(self.connection, args.task, args.split, position[ENTITY])
        with self.clock.stage("features"):
            self.network = self.encode(tables)
        low, high = np.percentile(self.train.label, [2, 98])
        self.limits = (float(low), float(high))

    def encode(self, tables):
        """Features into the graph; the network that fits them."""
        first_year = min(self.train.date).year
        features, sizes = {}, {}
        for name, table in tables.items():
            features[name], sizes[name] = encode_table(table, CUT_SECONDS, first_year)
            for kind, x in features[name].items():
                self.data[name][kind] = x
        timed = [name for name, table in tables.items() if table.time_column is not None]
        return Network(ENTITY, features, sizes, timed, self.data.edge_types, CHANNELS)

    def loader(self, rows, shuffle=False, frozen=False):
        return NeighborLoader(
            self.data, num_neighbors=NEIGHBORS, input_nodes=(ENTITY, rows.entity), time_attr="time",
            input_time=rows.time.clamp(max=CUT_SECONDS) if frozen else rows.time, temporal_strategy="uniform",
            is_sorted=True, batch_size=BATCH, shuffle=shuffle, num_workers=self.args.workers,
            persistent_workers=self.args.workers > 0)

    def batches(self, loader):
        """The loader's batches; waiting for one is the stage sample."""
        batches = iter(loader)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.clock.add("sample", time.perf_counter() - began)
            if batch is None:
                return
            yield batch

    def forward(self, batch, rows):
        """Outputs and labels of a batch; encoding and the rest are stages of their own."""
        began, encoded = time.perf_counter(), self.network.encode_seconds
        which = batch[ENTITY].input_id
        out = self.network(batch, rows.time[which])
        encode = self.network.encode_seconds - encoded
        self.clock.add("encode", encode)
        self.clock.add("forward", time.perf_counter() - began - encode)
        return out, rows.label[which]

    def loss(self, out, label):
        return F.l1_loss(out, label) if self.metric == "mae" else F.binary_cross_entropy_with_logits(out, label)

    def train_epoch(self, loader, optimizer):
        self.network.train()
        for step, batch in enumerate(self.batches(loader)):
            if step == self.args.max_steps:
                break
            out, label = self.forward(batch, self.train)
            with self.clock.stage("backward"):
                optimizer.zero_grad()
                self.loss(out, label).backward()
                optimizer.step()
            self.steps += 1

    @torch.no_grad()
    def predict(self, loader, rows):
        """A prediction for every row, in their order."""
        self.network.eval()
        out = torch.cat([self.network(batch, rows.time[batch[ENTITY].input_id]) for batch in loader])
        return (out.clamp(*self.limits) if self.metric == "mae" else out.sigmoid()).numpy()

    def fit(self):
        train, validation = self.loader(self.train, shuffle=True), self.loader(self.validation)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)
        better = min if self.metric == "mae" else max
        self.best, state, self.steps = None, None, 0
        for _ in range(self.args.epochs):
            self.train_epoch(train, optimizer)
            with self.clock.stage("evaluate"):
                value = metric(self.metric, self.validation.label, self.predict(validation, self.validation))
                if self.best is None or better(value, self.best) == value and value != self.best:
                    self.best, state = value, copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(state)

    def write(self):
        """Predict the rows asked for, in each regime, and write them into rdl_prediction."""
        self.connection.execute("DROP TABLE IF EXISTS rdl_prediction")
        self.connection.execute('CREATE TABLE rdl_prediction (regime text, date timestamp, "driverId" int,'
                                " prediction float8)")
        for regime in regimes(self.args.split):
            with self.clock.stage("predict"):
                scores = self.predict(self.loader(self.predicted, frozen=regime == "frozen"), self.predicted)
            with self.clock.stage("write"), self.connection.cursor() as cursor:
                with cursor.copy("COPY rdl_prediction FROM STDIN") as copy_in:
                    for date, key, score in zip(self.predicted.date, self.predicted.key, scores):
                        copy_in.write_row((regime, date, key, float(score)))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=0, help="processes of the loader")
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS, help="of an epoch; fewer to measure a step")
    args = parser.parse_args()
    if not torch_geometric.typing.WITH_PYG_LIB:
        raise SystemExit("rdl_run: PyG's temporal sampling needs pyg-lib")
    began = time.perf_counter()
    pipeline = Pipeline(args)
    pipeline.fit()
    pipeline.write()
    total = time.perf_counter() - began
    values = {r: stored_metric(pipeline.connection, args.task, args.split, "rdl_prediction", r)
              for r in regimes(args.split)}
    print(json.dumps({
        "benchmark": "rel_f1_pyg", "system": "torch + PyG", "task": args.task, "seed": args.seed,
        "metric": pipeline.metric, "validation": pipeline.best, "split": args.split,
        **{regime: value for regime, (value, _) in values.items()}, "rows": len(pipeline.predicted.key),
        "epochs": args.epochs, "steps": pipeline.steps, "cut_short": args.max_steps < MAX_STEPS,
        "threads": args.threads, "total_seconds": round(total, 3),
        "stages": {stage: round(seconds, 3) for stage, seconds in pipeline.clock.seconds.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}), flush=True)


if __name__ == "__main__":
    main()
