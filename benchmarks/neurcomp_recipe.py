"""The published training that `siren` is compared with, in plain torch: Lu, Jiang, Levine, Berger, CGF 40(3), 2021.

8 layers, width by the compression ratio, Adam 5e-5 with a fifth of the rate every 20 passes, 75 passes of random
samples, 16,384 a step.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch

from neurcomp_core.nets.siren import Siren, axis_coordinates, forward_torch, lattice_points, paper_width

PASSES, BATCH, RATE, DECAY, DECAY_PASSES = 75, 16384, 5e-5, 0.2, 20


class Recipe:
    """A training under way.

    Parameters
    ----------
    values : ndarray
        ``(z, y, x)`` float32; the field lies on the device whole.
    ratio : float
        Samples per parameter.
    device : str
    batch : int
        Samples per step.
    """

    def __init__(self, values: np.ndarray, ratio: float, device: str = "cpu", batch: int = BATCH) -> None:
        self.net = Siren(paper_width(values.size / ratio))
        torch.manual_seed(0)
        self.parameters = []
        for k, (rows, columns) in enumerate(self.net.shapes):
            bound = 1 / columns if k == 0 else math.sqrt(6 / columns) / self.net.omega
            phase = 1 / math.sqrt(columns)
            for part in (torch.empty(rows, columns).uniform_(-bound, bound), torch.empty(rows).uniform_(-phase, phase)):
                self.parameters.append(part.to(device).requires_grad_())
        low, high = float(values.min()), float(values.max())
        self.targets = torch.from_numpy(2 * (values.reshape(-1) - low) / (high - low) - 1).to(device)
        self.points = torch.from_numpy(lattice_points(axis_coordinates(values.shape))).to(device)
        self.optimiser = torch.optim.Adam(self.parameters, RATE)
        self.batch = batch
        self.every = values.size / batch
        self.at = 0
        self.seconds = 0.0

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return round(PASSES * self.every)

    def run(self, steps: int) -> float:
        """Train some steps; returns the seconds they took."""
        _wait(self.targets)
        start = time.perf_counter()
        for step in range(self.at, self.at + steps):
            drawn = torch.randint(len(self.targets), (self.batch,), device=self.targets.device)
            outputs = forward_torch(self.net, self.parameters, self.points[drawn])[:, 0]
            loss = torch.nn.functional.mse_loss(outputs, self.targets[drawn])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            for group in self.optimiser.param_groups:
                group["lr"] = RATE * DECAY ** (int((step + 1) / self.every + 1) // DECAY_PASSES)
        _wait(self.targets)
        self.at += steps
        taken = time.perf_counter() - start
        self.seconds += taken
        return taken

    @torch.no_grad()
    def psnr(self) -> float:
        """Of the network in floats, in dB."""
        pairs = zip(self.points.split(BATCH), self.targets.split(BATCH), strict=True)
        squares = [(forward_torch(self.net, self.parameters, p)[:, 0] - t).double().square().sum() for p, t in pairs]
        return 10 * math.log10(4 * len(self.targets) / float(torch.stack(squares).sum()))

    def save(self, path: Path) -> None:
        """Keep where the training is."""
        state = {"parameters": self.parameters, "optimiser": self.optimiser.state_dict(), "at": self.at,
                 "seconds": self.seconds}  # fmt: skip
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`."""
        state = torch.load(path, map_location=self.targets.device, weights_only=True)
        with torch.no_grad():
            for p, found in zip(self.parameters, state["parameters"], strict=True):
                p.copy_(found)
        self.optimiser.load_state_dict(state["optimiser"])
        self.at, self.seconds = state["at"], state["seconds"]


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()
