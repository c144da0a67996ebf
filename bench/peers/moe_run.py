"""moe_ml's side of bench/peers/rel_f1_pyg: the same work as rdl_run.py, in the server.

CREATE MODEL of the graph expert alone with the reference's sizes (channels, blocks, hops, neighbours, batch, epochs, one network, no early stop),
predictions into a table by INSERT ... SELECT, and the same metric over that table. Prints one JSON object.
"""
import json
import time

from rel_f1_tasks import CUT, TASKS, Clock, arguments, connect, regimes, stored_metric


def peak_mb(connection):
    """Highest resident memory of the connection's server process, the touched part of shared buffers included."""
    with open(f"/proc/{connection.info.backend_pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--with", dest="options", default="", help="more options of CREATE MODEL")
    args = parser.parse_args()
    table, label, name = TASKS[args.task]
    connection, clock = connect(args.socket), Clock()
    connection.execute("SET client_min_messages = warning")
    connection.execute(f"SET moe_ml.threads = {args.threads}")
    options = ["experts = 'graph'", "channels = 128", "blocks = 4", "hops = 2", "neighbors = (128, 64)", "batch_size = 512",
               "max_steps = 2000", "learning_rate = 0.005", "dropout = 0.2", "ensembles = 1",
               f"epochs = {args.epochs}", "patience = 0", f"seed = {args.seed}",
               f"validation_from = '2005-01-01', test_from = '{CUT}'"] + ([args.options] if args.options else [])
    predicted = f'SELECT date AS as_of, "driverId", {label} AS label FROM f1_task.{table} WHERE split = \'{args.split}\''
    connection.execute("DROP TABLE IF EXISTS moe_prediction")
    connection.execute('CREATE TABLE moe_prediction (regime text, date timestamp, "driverId" int, prediction float8)')

    began = time.perf_counter()
    with clock.stage("rest of CREATE MODEL"):
        connection.execute(
            "SELECT moe_ml.execute(%s)",
            [f"CREATE OR REPLACE MODEL peer PREDICT {label} FOR EACH f1.drivers AT date WITH ({', '.join(options)})"
             f' AS SELECT date, "driverId", {label} FROM f1_task.{table} WHERE split <> \'test\''])
    for regime in regimes(args.split):
        with clock.stage("predict and write"):
            connection.execute(
                "INSERT INTO moe_prediction SELECT %s, as_of AT TIME ZONE 'UTC', key::int, prediction"
                " FROM moe_ml.predictions('peer', %s, %s)", [regime, predicted, regime])
    total = time.perf_counter() - began

    stages, = connection.execute("SELECT stages FROM moe_ml.model_relations WHERE name = 'peer'").fetchone()
    validation, = connection.execute("SELECT model FROM moe_ml.evaluate('peer') WHERE split = 'validation'"
                                     " AND metric = %s", [name]).fetchone()
    for stage, seconds in stages.items():
        clock.add(stage, seconds)
        clock.add("rest of CREATE MODEL", -seconds)
    values = {r: stored_metric(connection, args.task, args.split, "moe_prediction", r) for r in regimes(args.split)}
    print(json.dumps({
        "benchmark": "rel_f1_pyg", "system": "moe_ml", "task": args.task, "seed": args.seed, "metric": name,
        "validation": validation, "split": args.split, **{regime: value for regime, (value, _) in values.items()},
        "rows": values[regimes(args.split)[0]][1], "epochs": args.epochs, "threads": args.threads,
        "total_seconds": round(total, 3),
        "stages": {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()},
        "peak_mb": round(peak_mb(connection), 1)}), flush=True)


if __name__ == "__main__":
    main()
