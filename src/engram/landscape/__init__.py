"""The loss surface: what the loss looks like around a network, and the way that training took through it.

A network with P weights is a point in P dimensions; a picture has two. Take a point θ* and two directions d₁, d₂, and
draw the loss over the plane they span:

    f(a, b) = L(θ* + a d₁ + b d₂)

Two planes are worth looking at, and each hides what the other shows:

- *The plane of the path*: d₁, d₂ are the two principal components of the weights seen while training, about the last.
  It holds most of the path (typically 95 to 98 % of its squared length), so the path can be drawn on it. What it leaves
  out is not small in terms of loss: at the projected start the loss was up to a third below the true one in our
  measurements. So every snapshot keeps its true loss, and the share of it that lies off the plane is told.
- *A random plane*: d₁, d₂ are random, each filter scaled to the length of the network's own filter, so that a step of
  one means the same in every layer and in networks whose weights differ in scale. It shows how sharp the minimum is. It
  holds less than 1 % of the path, which therefore must not be drawn on it.

Two settings decide whether the numbers mean anything. Batch norm's running statistics belong to one point; at every
other they are wrong, so the statistics of the examples themselves are taken. And all points see the same examples.

It helps to see whether training crossed a barrier, circled, or ended in a narrow ravine. It does not tell how a network
generalises, and a valley in two dimensions may be a saddle in P.

    trajectory = engram.landscape.Trajectory(net, total_steps)
    trajectory.keep(0)
    for step in range(1, total_steps + 1):
        ...; optimizer.step()
        if trajectory.due(step):
            trajectory.keep(step)
    measured, why_not = engram.landscape.measure(net, trajectory, x, y, seconds=20)

Li, Xu, Taylor, Studer and Goldstein 2018, Visualizing the loss landscape of neural nets, arXiv:1712.09913, section 4
(filter normalisation) and section 7 (the path on its principal components); Goodfellow, Vinyals and Saxe 2015,
Qualitatively characterizing neural network optimization problems, arXiv:1412.6544 (the loss along a line of weights).
They take running statistics from a pass over the data at each point; we take those of the examples drawn. They draw the
path without its error; we print it.
"""

from engram.landscape.plane import Plane, Principal, principal, random_plane
from engram.landscape.surface import Landscape, Surface, measure, on_plane, write
from engram.landscape.trajectory import Trajectory

__all__ = [
    "Landscape",
    "Plane",
    "Principal",
    "Surface",
    "Trajectory",
    "measure",
    "on_plane",
    "principal",
    "random_plane",
    "write",
]
