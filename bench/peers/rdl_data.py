"""Tables of a schema, read out of PostgreSQL, as tensors and as PyG's HeteroData.

Columns are told apart as RelBench describes it: keys are no features; bool, and integers or strings whose rarest value
occurs more than four times, are categories; other numbers are numeric, dates are timestamps, other strings are text.
Statistics come from the rows visible at the cut. RelBench gives text as sentence vectors, for which it needs a
language model; here it is a hashed bag of words of the same 300 dimensions.
"""
import re
import zlib
from collections import Counter

import numpy as np
import torch
from torch_geometric.data import HeteroData

TEXT_DIMENSIONS = 300
ALWAYS_VISIBLE = torch.iinfo(torch.int64).min
NUMBERS = ("double precision", "real", "numeric")


class Table:
    """One table as read: its columns, and which of them are key, foreign keys ({column: parent}) and row time."""

    def __init__(self, name, columns, types):
        self.name, self.columns, self.types = name, columns, types
        self.key, self.parents = None, {}
        self.time_column = "date" if types.get("date", "").startswith("timestamp") else None

    def seconds(self):
        """Row times in seconds, or None."""
        if self.time_column is None:
            return None
        return np.array(self.columns[self.time_column], "datetime64[s]").astype(np.int64)


def read_tables(connection, schema):
    """All tables of a schema with their keys: {name: Table}."""
    columns, tables = {}, {}
    for name, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = %s ORDER BY table_name, ordinal_position", [schema]):
        columns.setdefault(name, {})[column] = kind
    for name, types in columns.items():
        rows = connection.execute(f'SELECT * FROM "{schema}"."{name}"').fetchall()
        tables[name] = Table(name, dict(zip(types, zip(*rows))), types)
    for name, kind, column, parent in connection.execute(
            "SELECT c.relname, k.contype, a.attname, p.relname FROM pg_constraint AS k"
            " JOIN pg_class AS c ON c.oid = k.conrelid LEFT JOIN pg_class AS p ON p.oid = k.confrelid"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]"
            " WHERE k.contype IN ('p', 'f') AND k.connamespace = %s::regnamespace", [schema]):
        if kind == "p":
            tables[name].key = column
        else:
            tables[name].parents[column] = parent
    return tables


def column_kind(values, kind):
    """The encoding of a column, by its type and its visible values; None for a column without any."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    if kind == "date" or kind.startswith("timestamp"):
        return "stamp"
    if kind in NUMBERS:
        return "number"
    if kind == "boolean" or min(Counter(known).values()) > 4:
        return "category"
    return "number" if kind in ("integer", "bigint", "smallint") else "text"


def numbers(values, visible):
    """Standardised by the visible rows; missing is the mean, 0."""
    x = np.array([np.nan if v is None else v for v in values], np.float64)
    x = (x - np.nanmean(x[visible])) / (np.nanstd(x[visible]) or 1.0)
    return np.nan_to_num(x).astype(np.float32)


def categories(values, visible):
    """Numbers of the visible values, and how many there are; that number itself is unknown or missing."""
    known = sorted({v for v, seen in zip(values, visible) if seen and v is not None})
    number = {v: i for i, v in enumerate(known)}
    return np.array([number.get(v, len(known)) for v in values], np.int64), len(known)


def words(values):
    """Hashed bags of words, each of length 1."""
    out = np.zeros((len(values), TEXT_DIMENSIONS), np.float32)
    for i, value in enumerate(values):
        for word in re.findall(r"\w+", str(value).lower() if value is not None else ""):
            code = zlib.crc32(word.encode())
            out[i, code % TEXT_DIMENSIONS] += 1 if code >> 31 else -1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1)


def stamps(values, visible, first_year):
    """Year from the first training year, and month to second each scaled to [0, 1), as 8 sinusoids each: [n, 56]."""
    when = np.array(values, "datetime64[s]")
    known = when[visible & ~np.isnat(when)]
    when = np.where(np.isnat(when), np.sort(known)[len(known) // 2], when)
    year, month, day = (when.astype(f"datetime64[{unit}]") for unit in "YMD")
    second = (when - day).astype(np.int64)
    parts = [(month - year).astype(np.int64) / 12, (day - month).astype(np.int64) / 31,
             (day.astype(np.int64) + 3) % 7 / 7, second // 3600 / 24, second // 60 % 60 / 60, second % 60 / 60]
    angles = [np.outer(year.astype(np.int64) + 1970 - first_year, 1e-4 ** (np.arange(4) / 4))]
    angles += [np.outer(2 * np.pi * part, np.arange(1, 5)) for part in parts]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def encode_table(table, cut, first_year):
    """Features of a table: tensors by kind with a row first, and the sizes of its categories."""
    n = len(next(iter(table.columns.values())))
    time = table.seconds()
    visible = np.ones(n, bool) if time is None else time <= cut
    parts, sizes = {"number": [], "category": [], "text": [], "stamp": []}, []
    for column, values in table.columns.items():
        kind = None
        if column != table.key and column not in table.parents:
            kind = column_kind([v for v, seen in zip(values, visible) if seen], table.types[column])
        if kind == "number":
            parts[kind].append(numbers(values, visible))
        elif kind == "category":
            code, size = categories(values, visible)
            parts[kind].append(code)
            sizes.append(size)
        elif kind == "text":
            parts[kind].append(words(values))
        elif kind == "stamp":
            parts[kind].append(stamps(values, visible, first_year))
    if not any(parts.values()):
        parts["number"].append(np.ones(n, np.float32))
    return {kind: torch.from_numpy(np.stack(p, axis=1)) for kind, p in parts.items() if p}, sizes


def build_graph(tables):
    """Node times and one edge type a foreign key and direction, sorted by destination and then by time."""
    data = HeteroData()
    position, time = {}, {}
    for name, table in tables.items():
        if table.key is not None:
            position[name] = {key: i for i, key in enumerate(table.columns[table.key])}
        n, seconds = len(next(iter(table.columns.values()))), table.seconds()
        data[name].num_nodes = n
        time[name] = np.full(n, ALWAYS_VISIBLE) if seconds is None else seconds
        if seconds is not None:
            data[name].time = torch.from_numpy(seconds)
    for name, table in tables.items():
        for column, parent in table.parents.items():
            place = [position[parent].get(key, -1) for key in table.columns[column]]
            pairs = np.stack([np.arange(len(place)), place])[:, np.array(place) >= 0]
            down, up = (name, column, parent), (parent, "rev_" + column, name)
            order = np.lexsort((time[name][pairs[0]], pairs[1]))
            data[down].edge_index = torch.from_numpy(pairs[:, order]).contiguous()
            data[up].edge_index = torch.from_numpy(pairs[::-1].copy())
    return data, position
