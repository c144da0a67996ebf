"""The peers' side of bench/peers/kernels: PyTorch's and PyG's kernels on the inputs that moe_ml gets."""
import argparse

import numpy as np
import torch
import torch_geometric.typing
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.loader import NeighborLoader
from torch_geometric.utils import scatter, segment

try:
    from pyg_lib.ops import segment_csr
except ImportError:
    segment_csr = None

from paired import Program, difference, measure, report

TOLERANCE = 1e-4
DENSE_LIMIT = 1 << 30  # bytes of a dense product of all experts beyond which it is not tried


def check(case, ours, theirs):
    worst = difference(ours, theirs.detach().numpy().ravel())
    if worst > TOLERANCE:
        raise SystemExit(f"kernels: results differ by {worst:.2g} on {case}")


def with_backward(call, inputs, gy):
    """Forward and backward; the inputs' gradients start from none, as after zero_grad."""
    def both():
        for x in inputs:
            x.grad = None
        call().backward(gy)
    return both


# Neighbourhood aggregation

def neighbourhoods(rng, rows, degree, skewed):
    """Offsets and sources: degrees uniform in [0, 2 * degree], or by a power law with sources as skewed."""
    if skewed:
        count = np.minimum(rng.pareto(1.5, rows) * degree / 2, rows // 4).astype(np.int64)
        index = (rows * rng.random(count.sum()) ** 3).astype(np.int32)
        index = rng.permutation(rows).astype(np.int32)[index]
    else:
        count = rng.integers(0, 2 * degree + 1, rows)
        index = rng.integers(0, rows, count.sum(), dtype=np.int32)
    offset = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    # Sorted within a row, without which torch.sparse refuses the matrix.
    order = np.lexsort((index, np.repeat(np.arange(rows), count)))
    return offset, index[order]


def aggregate_peers(offset, index, weight, reduce, x, rows):
    """torch.sparse.mm over CSR, and PyG's ways: index_select, then scatter (SAGEConv's) or a sum over segments."""
    pointer, source = torch.from_numpy(offset), torch.from_numpy(index).long()
    target = torch.repeat_interleave(torch.arange(rows), pointer.diff())
    values = torch.ones(len(source)) if weight is None else torch.from_numpy(weight)
    matrix = torch.sparse_csr_tensor(pointer, source, values, (rows, rows))

    def messages():
        m = x.index_select(0, source)
        return m if weight is None else m * values.unsqueeze(1)

    how = {} if reduce == "sum" else {"reduce": {"max": "amax"}.get(reduce, reduce)}
    peers = {"torch.sparse.mm": lambda: torch.sparse.mm(matrix, x, **how),
             "PyG scatter": lambda: scatter(messages(), target, dim_size=rows, reduce=reduce),
             "PyG segment": lambda: segment(messages(), pointer, reduce=reduce)}
    if segment_csr is not None:
        peers["pyg-lib segment_csr"] = lambda: segment_csr(messages(), pointer, reduce=reduce)
    return peers


def aggregate_case(args, rng, rows, channels, skewed, reduce, weighted):
    offset, index = neighbourhoods(rng, rows, 16, skewed)
    weight = rng.random(len(index), np.float32) if weighted else None
    x, gy = (rng.standard_normal((rows, channels), np.float32) for _ in range(2))
    arrays = {"offset": offset, "index": index, "x": x, "gy": gy, **({"weight": weight} if weighted else {})}
    tx, tgy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(gy)
    case = {"operation": "aggregate", "reduce": reduce, "weighted": weighted,
            "degrees": "power law" if skewed else "uniform", "rows": rows, "entries": len(index),
            "channels": channels}
    calls = aggregate_peers(offset, index, weight, reduce, tx, rows)
    with Program(args, "aggregate", arrays, rows, rows, channels, reduce, int(weighted)) as program:
        program.run("both")
        program.run("save")
        peers = {"forward": {}, "both": {}}
        for name, call in calls.items():
            both = with_backward(call, [tx], tgy)
            check({**case, "peer": name}, program.saved("out"), call())
            peers["forward"][name] = torch.no_grad()(call)
            try:
                both()
            except RuntimeError as error:
                print(f"# {name} has no backward for {reduce}: {str(error).splitlines()[0]}", flush=True)
                continue
            if reduce != "max":  # of equal maxima each side may choose another
                check({**case, "peer": name, "gradient": True}, program.saved("gx"), tx.grad)
            peers["both"][name] = both
        for command, calls in peers.items():
            report(args, {**case, "pass": command}, measure(args, program, command, calls))


def aggregate(args, rng):
    if args.quick:
        for skewed, reduce, weighted in ((False, "sum", True), (True, "sum", False), (False, "max", False)):
            aggregate_case(args, rng, 20000, 64, skewed, reduce, weighted)
        return
    for rows, channels in ((20000, 64), (20000, 128), (150000, 64), (150000, 128)):
        for skewed in (False, True):
            for reduce in ("sum", "mean", "max"):
                for weighted in (False, True):
                    if not (weighted and reduce == "mean"):
                        aggregate_case(args, rng, rows, channels, skewed, reduce, weighted)


# Temporal sampling: entities without a time, events, and facts that refer to both.

def star_schema(rng, entities, events, facts):
    """Row times of each table (None: none), and (child, parent, parents of the rows) of each foreign key."""
    times, keys = [None, np.arange(events, dtype=np.int64)], []
    for rows in facts:
        event = np.sort(rng.integers(0, events, rows)).astype(np.int32)
        entity = (entities * rng.random(rows) ** 2).astype(np.int32)
        keys += [(len(times), 0, entity), (len(times), 1, event)]
        times.append(event.astype(np.int64))
    return times, keys


def hetero(entities, times, keys):
    data = HeteroData()
    for t, time in enumerate(times):
        data[f"t{t}"].num_nodes = entities if time is None else len(time)
        if time is not None:
            data[f"t{t}"].time = torch.from_numpy(time)
    for k, (child, parent, of) in enumerate(keys):
        rows = np.argsort(of, kind="stable")
        down = np.stack([rows, of[rows]]).astype(np.int64)
        data[f"t{child}", f"k{k}", f"t{parent}"].edge_index = torch.from_numpy(down)
        up = np.stack([of, np.arange(len(of))]).astype(np.int64)
        data[f"t{parent}", f"r{k}", f"t{child}"].edge_index = torch.from_numpy(up)
    return data


def sampler_call(sampler, seeds, times):
    """pyg-lib's operator itself, as NeighborSampler calls it."""
    fanout = sampler.num_neighbors.get_mapped_values(sampler.edge_types)
    return lambda: torch.ops.pyg.hetero_neighbor_sample(
        sampler.node_types, sampler.edge_types, sampler.colptr_dict, sampler.row_dict, {"t0": seeds}, fanout,
        sampler.node_time, None, {"t0": times}, None, True, False, True, True, sampler.temporal_strategy, True)


def sample_case(args, rng, name, entities, times, keys, fanout, strategy):
    n = 512
    seeds = rng.integers(0, entities, n).astype(np.int32)
    when = rng.integers(len(times[1]) // 2, len(times[1]), n)
    arrays = {"tables": np.array([[entities if t is None else len(t), t is not None] for t in times], np.int64),
              "keys": np.array([[child, parent] for child, parent, _ in keys], np.int64),
              "seeds": seeds, "seed_times": when.astype(np.int64)}
    arrays |= {f"time{i}": t for i, t in enumerate(times) if t is not None}
    arrays |= {f"parent{i}": of for i, (_, _, of) in enumerate(keys)}
    tseeds, ttimes = torch.from_numpy(seeds).long(), torch.from_numpy(when)
    loader = NeighborLoader(hetero(entities, times, keys), num_neighbors=list(fanout), input_nodes=("t0", tseeds),
                            input_time=ttimes, time_attr="time", temporal_strategy=strategy, is_sorted=True,
                            batch_size=n)
    operator = sampler_call(loader.node_sampler, tseeds, ttimes)
    latest = "last" if strategy == "last" else "uniform"
    with Program(args, "sample", arrays, int(latest == "last"), *fanout) as program:
        program.run("forward")
        program.run("save")
        occurrences, rows, first, second = (int(c) for c in program.saved("counts", np.int64))
        out = operator()
        hops = [sum(counts[hop] for counts in out[5].values()) for hop in range(2)]
        if hops[0] != first:
            raise SystemExit(f"kernels: {first} edges of the first hop, pyg-lib has {hops[0]}")
        counts = {"edges": [first, second], "pyg_edges": hops, "occurrences": occurrences, "rows": rows,
                  "pyg_nodes": sum(len(v) for v in out[2].values())}
        peers = {"pyg-lib": operator, "NeighborLoader": lambda: next(iter(loader))}
        times_of = measure(args, program, "forward", peers)
    case = {"operation": "sample", "graph": name, "fanout": "/".join(map(str, fanout)), "strategy": latest,
            "seeds": n}
    report(args, case, times_of, **(counts if args.json else {}))


def sample(args, rng):
    if not torch_geometric.typing.WITH_PYG_LIB:
        print("# sampling skipped: no pyg-lib, without which PyG has no temporal sampling")
        return
    graphs = {"rel-f1-like": (800, 1000, (26000, 34000, 10000))}
    if not args.quick:
        graphs["larger"] = (100000, 20000, (2000000, 1000000, 500000))
    for name, (entities, events, facts) in graphs.items():
        times, keys = star_schema(rng, entities, events, facts)
        for fanout in ((64, 32), (128, 64)):
            for strategy in ("uniform", "last"):
                sample_case(args, rng, name, entities, times, keys, fanout, strategy)


# Mixture of experts

def expert_peers(x, w, b, gate, chosen):
    """A loop over experts, the product of all rows with all experts, and torch's grouped product where it has one."""
    experts, rows = len(w), len(x)

    def loop():
        out = torch.zeros(rows, w.size(2))
        for e in range(experts):
            row, slot = torch.where(chosen == e)
            y = torch.addmm(b[e], x.index_select(0, row), w[e])
            out = out.index_add(0, row, y * gate[row, slot].unsqueeze(1))
        return out

    def dense():
        y = torch.baddbmm(b.unsqueeze(1), x.expand(experts, -1, -1), w)
        every = torch.zeros(rows, experts).scatter(1, chosen, gate)
        return torch.einsum("erm,re->rm", y, every)

    def grouped():
        k = chosen.size(1)
        group, order = chosen.flatten().sort(stable=True)
        row, ends = order // k, torch.bincount(group, minlength=experts).cumsum(0).int()
        y = F.grouped_mm(x.index_select(0, row), w, offs=ends) + b.index_select(0, group)
        return torch.zeros(rows, w.size(2)).index_add(0, row, y * gate.flatten()[order].unsqueeze(1))

    peers = {"loop": loop}
    if hasattr(F, "grouped_mm"):
        peers["grouped_mm"] = grouped
    if 4 * experts * rows * w.size(2) <= DENSE_LIMIT:
        peers["dense"] = dense
    return peers


def experts_case(args, rng, experts, k, width, rows):
    chosen = np.argsort(rng.random((rows, experts)), axis=1)[:, :k].astype(np.int32)
    gate = rng.random((rows, k), np.float32)
    x, gy = (rng.standard_normal((rows, width), np.float32) for _ in range(2))
    w = rng.standard_normal((experts, width, width), np.float32) / np.float32(np.sqrt(width))
    b = rng.standard_normal((experts, width), np.float32)
    arrays = {"chosen": chosen, "gate": gate, "x": x, "gy": gy, "w": w, "b": b}
    inputs = {"gx": x, "gw": w, "gb": b, "ggate": gate}
    inputs = {name: torch.from_numpy(a).requires_grad_() for name, a in inputs.items()}
    calls = expert_peers(*inputs.values(), torch.from_numpy(chosen).long())
    case = {"operation": "experts", "experts": experts, "top_k": k, "width": width, "rows": rows}
    with Program(args, "experts", arrays, rows, width, experts, k) as program:
        program.run("both")
        program.run("save")
        backward = {}
        for name, call in calls.items():
            check({**case, "peer": name}, program.saved("out"), call())
            backward[name] = with_backward(call, inputs.values(), torch.from_numpy(gy))
            backward[name]()
            for gradient, tensor in inputs.items():
                check({**case, "peer": name, "gradient": gradient}, program.saved(gradient), tensor.grad)
        forward = {name: torch.no_grad()(call) for name, call in calls.items()}
        report(args, {**case, "pass": "forward"}, measure(args, program, "forward", forward))
        report(args, {**case, "pass": "both"}, measure(args, program, "both", backward))


def experts(args, rng):
    for rows in (4096,) if args.quick else (512, 4096, 65536):
        for width in (128,) if args.quick else (64, 128, 256):
            for count in (4, 8, 32):
                for k in (1, 2):
                    experts_case(args, rng, count, k, width, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["aggregate", "sample", "experts"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    for name, run in (("aggregate", aggregate), ("sample", sample), ("experts", experts)):
        if args.only in (None, name):
            run(args, np.random.default_rng(1))


if __name__ == "__main__":
    main()
