"""RelBench's reference network: column encoders, a residual row encoder, relative time, hetero GraphSAGE, a head."""
import math
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import HeteroConv, SAGEConv

DROPOUT = 0.2
DAY = 86400.0


class Columns(nn.Module):
    """The columns of one kind, each by a linear map of its own: [n, k, d] -> [n, k * channels]."""

    def __init__(self, columns, dimensions, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns, dimensions, channels) / math.sqrt(dimensions))

    def forward(self, x):
        return torch.einsum("nkd,kdc->nkc", x, self.weight).flatten(1)


class Numbers(nn.Module):
    """Each number times a vector: [n, k] -> [n, k * channels]."""

    def __init__(self, columns, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns, channels) * 0.1)

    def forward(self, x):
        return (x.unsqueeze(2) * self.weight).flatten(1)


class Categories(nn.Module):
    """Lookup; the last entry of each column, unknown or missing, stays the zero vector: [n, k] -> [n, k * channels]."""

    def __init__(self, sizes, channels):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n + 1, channels, padding_idx=n) for n in sizes)

    def forward(self, x):
        return torch.cat([table(x[:, i]) for i, table in enumerate(self.tables)], dim=1)


class Residual(nn.Module):
    def __init__(self, inputs, channels):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, channels), nn.Linear(channels, channels)
        self.first_norm, self.second_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.shortcut = nn.Identity() if inputs == channels else nn.Linear(inputs, channels)

    def forward(self, x):
        h = F.dropout(F.relu(self.first_norm(self.first(x))), DROPOUT, self.training)
        h = F.dropout(F.relu(self.second_norm(self.second(h))), DROPOUT, self.training)
        return h + self.shortcut(x)


class RowEncoder(nn.Module):
    """The rows of one table to vectors."""

    def __init__(self, features, sizes, channels, blocks=4):
        super().__init__()
        self.columns = nn.ModuleDict()
        for kind, x in features.items():
            if kind == "number":
                self.columns[kind] = Numbers(x.size(1), channels)
            elif kind == "category":
                self.columns[kind] = Categories(sizes, channels)
            else:
                self.columns[kind] = Columns(x.size(1), x.size(2), channels)
        width = channels * sum(x.size(1) for x in features.values())
        self.blocks = nn.Sequential(*(Residual(width if i == 0 else channels, channels) for i in range(blocks)),
                                    nn.LayerNorm(channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, rows):
        return self.blocks(torch.cat([encode(rows[kind]) for kind, encode in self.columns.items()], dim=1))


class RelativeTime(nn.Module):
    """Days from the row to the seed time as sinusoids of frequencies from 1 to 1/10000, then a linear map."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("frequency", 1e-4 ** (torch.arange(channels // 2) / (channels // 2)))
        self.map = nn.Linear(channels, channels)

    def forward(self, seconds):
        angle = (seconds / DAY).float().unsqueeze(1) * self.frequency
        return self.map(torch.cat([angle.sin(), angle.cos()], dim=1))


class Network(nn.Module):
    """features, sizes: of each table (rdl_data.encode_table). The seeds are the first rows of the entity table."""

    def __init__(self, entity, features, sizes, timed, edge_types, channels, layers=2):
        super().__init__()
        self.entity = entity
        self.encoders = nn.ModuleDict({t: RowEncoder(features[t], sizes[t], channels) for t in features})
        self.times = nn.ModuleDict({t: RelativeTime(channels) for t in timed})
        self.convolutions = nn.ModuleList(
            HeteroConv({e: SAGEConv(channels, channels, aggr="sum") for e in edge_types}, aggr="sum")
            for _ in range(layers))
        self.norms = nn.ModuleList(nn.ModuleDict({t: nn.LayerNorm(channels) for t in features}) for _ in range(layers))
        self.head = nn.Linear(channels, 1)
        self.encode_seconds = 0.0

    def forward(self, batch, seed_time):
        """batch: of a NeighborLoader; seed_time [seeds]. Returns the seeds' outputs [seeds]."""
        began = time.perf_counter()
        x = {t: encode(batch[t]) for t, encode in self.encoders.items() if batch[t].num_nodes > 0}
        for t, relative in self.times.items():
            if t in x:
                x[t] = x[t] + relative(seed_time[batch[t].batch] - batch[t].time)
        self.encode_seconds += time.perf_counter() - began
        edges = {e: i for e, i in batch.edge_index_dict.items() if e[0] in x and e[2] in x}
        for convolve, norm in zip(self.convolutions, self.norms):
            x = {t: F.relu(norm[t](h)) for t, h in convolve(x, edges).items()}
            edges = {e: i for e, i in edges.items() if e[0] in x and e[2] in x}
        return self.head(x[self.entity][:len(seed_time)]).squeeze(1)
