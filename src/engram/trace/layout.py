"""Where the boxes of a graph stand: in columns by depth, near what they are joined to, never on one another.

Three steps, Sugiyama's. A node stands one column left of the first that reads it. A wire that passes columns gets a
waypoint in each. Within a column, the order is by the mean place of the neighbours, swept to and fro, so that few wires
cross. The heights minimise the squared lengths of all wires, with room kept between neighbours: a least-squares problem
with bounds, which scipy solves. networkx keeps the graph.

Sugiyama, Tagawa, Toda 1981, Methods for visual understanding of hierarchical system structures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from scipy.optimize import lsq_linear

SWEEPS = 8
ACROSS, BETWEEN = 60, 18
"""Room between columns, and between the boxes of one."""
STRAIGHT = 4.0
"""Weight of a wire's part between waypoints, against that of a short wire."""

Key = Any


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Attributes:
        places: the centres of the boxes.
        ways: for each wire, the columns that it passes, the first and the last with it: (left, right, y).
        width, height: of it all.
    """

    places: dict[int, tuple[float, float]]
    ways: list[list[tuple[float, float, float]]]
    width: float
    height: float


def layout(sizes: Mapping[int, tuple[float, float]], wires: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes of (width, height) so that every wire goes to the right.

    Args:
        wires: (from, to); the graph has no circle.

    >>> made = layout({0: (20, 10), 1: (20, 10), 2: (20, 10)}, [(0, 2), (1, 2)])
    >>> [(round(x), round(y)) for x, y in made.places.values()]
    [(10, 5), (10, 33), (90, 19)]
    """
    column = _columns(sizes, wires)
    graph = nx.Graph()
    graph.add_nodes_from(sizes)
    chains = []
    for number, (source, target) in enumerate(wires):
        between: list[Key] = [(number, place) for place in range(column[source] + 1, column[target])]
        column |= {waypoint: waypoint[1] for waypoint in between}
        chains.append([source, *between, target])
        nx.add_path(graph, chains[-1])
    rows = _rows(graph, column)
    y = _heights(graph, rows, {key: sizes[key][1] if key in sizes else 8.0 for key in column})
    spans, width = _across(rows, {key: sizes[key][0] if key in sizes else 0.0 for key in column})
    top = min((y[key] - sizes[key][1] / 2 for key in sizes), default=0.0)
    height = max((y[key] + sizes[key][1] / 2 for key in sizes), default=0.0) - top
    places = {key: (sum(spans[column[key]]) / 2, y[key] - top) for key in sizes}
    ways = [[(*spans[column[key]], y[key] - top) for key in chain] for chain in chains]
    return Layout(places, ways, width, height)


def _columns(sizes: Mapping[int, tuple[float, float]], wires: Sequence[tuple[int, int]]) -> dict[Key, int]:
    """The column of each box: as far to the right as what reads it allows."""
    back = nx.DiGraph()
    back.add_nodes_from(sizes)
    back.add_edges_from((target, source) for source, target in wires)
    generations = list(nx.topological_generations(back))
    return {key: len(generations) - 1 - number for number, generation in enumerate(generations) for key in generation}


def _rows(graph: nx.Graph, column: Mapping[Key, int]) -> list[list[Key]]:
    """The keys of each column, from top to bottom."""
    rows: list[list[Key]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for key in _by_reading(graph, column):
        rows[column[key]].append(key)
    place = {key: float(number) for row in rows for number, key in enumerate(row)}
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 else -1
        for row in rows[::-step]:
            for key in row:
                near = [
                    place[other] / len(rows[column[other]])
                    for other in graph[key]
                    if column[other] == column[key] + step
                ]
                if near:
                    place[key] = sum(near) / len(near) * len(row)
            row.sort(key=place.__getitem__)
            place |= {key: float(number) for number, key in enumerate(row)}
    return rows


def _by_reading(graph: nx.Graph, column: Mapping[Key, int]) -> list[Key]:
    """All keys as they are met from the output back, so that what is read first stands above."""
    found: dict[Key, None] = {}
    for root in sorted(column, key=lambda key: -column[key]):
        ahead = [root]
        while ahead:
            key = ahead.pop()
            if key not in found:
                found[key] = None
                ahead += [other for other in reversed(list(graph[key])) if column[other] < column[key]]
    return list(found)


def _heights(graph: nx.Graph, rows: list[list[Key]], tall: Mapping[Key, float]) -> dict[Key, float]:
    """The y of every key.

    The unknowns are the top of each column and the gaps in it, so that keeping apart is a bound on an unknown.
    """
    index, lowest = {}, []
    # bounds that are never met: without any, scipy's steps may become infinite
    room = 2 * sum(one + BETWEEN for one in tall.values())
    terms: dict[Key, list[int]] = {}
    for row in rows:
        for number, key in enumerate(row):
            index[key] = len(index)
            terms[key] = [*(terms[row[number - 1]] if number else []), index[key]]
            apart = (tall[row[number - 1]] + tall[key]) / 2 + BETWEEN if number else -room
            lowest.append(apart)
    if not index:
        return {}
    edges = [(one, other) for one, other in graph.edges]
    equations = np.zeros((len(edges) + len(rows), len(index)))
    for number, (one, other) in enumerate(edges):
        weight = STRAIGHT if one not in tall or isinstance(one, tuple) or isinstance(other, tuple) else 1.0
        equations[number, terms[one]] += weight
        equations[number, terms[other]] -= weight
    for number, row in enumerate(rows):  # a light pull to the middle, so that nothing floats away
        for key in row:
            equations[len(edges) + number, terms[key]] += 1e-3
    upper = np.full(len(index), room)
    found = lsq_linear(equations, np.zeros(len(equations)), bounds=(np.array(lowest), upper), tol=1e-8).x
    return {key: float(found[terms[key]].sum()) for key in index}


def _across(rows: list[list[Key]], wide: Mapping[Key, float]) -> tuple[list[tuple[float, float]], float]:
    """Where every column begins and ends, and the width of all."""
    spans, left = [], 0.0
    for row in rows:
        widest = max((wide[key] for key in row), default=0.0)
        spans.append((left, left + widest))
        left += widest + ACROSS
    return spans, max(left - ACROSS, 0.0)
