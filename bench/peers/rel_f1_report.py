"""Table, or JSON lines, of what rdl_run.py and moe_run.py printed: means over seeds, and the ratio of the totals."""
import json
import sys
from statistics import mean

PEER, OURS = "torch + PyG", "moe_ml"


def average(runs):
    """One object for the runs of one system and task that differ in the seed."""
    out = {k: runs[0][k] for k in ("benchmark", "system", "task", "metric", "split", "rows", "epochs", "threads")}
    out["seeds"] = len(runs)
    for key in ("validation", "frozen", "rolling"):
        if key in runs[0]:
            out[key] = round(mean(run[key] for run in runs), 4)
    out["total_seconds"] = round(mean(run["total_seconds"] for run in runs), 2)
    out["peak_mb"] = max(run["peak_mb"] for run in runs)
    out["stages"] = {s: round(mean(run["stages"][s] for run in runs), 3) for s in runs[0]["stages"]}
    out["cut_short"] = any(run.get("cut_short") for run in runs)
    return out


def show(sides):
    """The two systems of one task side by side."""
    first = sides[0]
    print(f"\n{first['task']}: {first['rows']} {first['split']} rows, {first['epochs']} epochs, "
          f"{first['threads']} threads, {first['seeds']} seed(s)")
    names = ["total_seconds"] + [key for key in ("validation", "frozen", "rolling") if key in first] + ["peak_mb"]
    stages = list(dict.fromkeys(stage for side in sides for stage in side["stages"]))
    print(f"{'':24}" + "".join(f"{side['system']:>14}" for side in sides))
    for name in names:
        label = f"{name} {first['metric']}" if name in ("validation", "frozen", "rolling") else name
        print(f"{label:24}" + "".join(f"{side[name]:>14}" for side in sides))
    for stage in stages:
        print(f"  {stage:22}" + "".join(f"{side['stages'].get(stage, ''):>14}" for side in sides))


def main():
    as_json, path = "--json" in sys.argv, sys.argv[-1]
    with open(path) as file:
        runs = [json.loads(line) for line in file]
    for task in dict.fromkeys(run["task"] for run in runs):
        groups = [[run for run in runs if run["task"] == task and run["system"] == system] for system in (PEER, OURS)]
        sides = [average(group) for group in groups if group]
        if as_json:
            for side in sides:
                print(json.dumps(side))
        else:
            show(sides)
        if len(sides) == 2 and not any(side["cut_short"] for side in sides):
            ratio = round(sides[0]["total_seconds"] / sides[1]["total_seconds"], 1)
            print(json.dumps({"benchmark": "rel_f1_pyg", "task": task, "ratio": ratio}) if as_json
                  else f"{'ratio':24}{ratio:>14}")


if __name__ == "__main__":
    main()
