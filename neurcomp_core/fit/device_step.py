"""A training step of a hash grid that never leaves the device: what `fit.trainer.Trainer` takes with Triton.

The same step as `host_step`'s, with kernels called one after the other instead of through autograd. The whole of it,
from drawing the batch to rounding the parameters, is recorded once as a CUDA graph and then replayed. Products may be
computed in less than float32; parameters, moments, gradients and sums are float32. A trainer makes one for each run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from neurcomp_core.fit.host_step import loss_of
from neurcomp_core.fit.triton_adam import Blocks, Groups, Parameters
from neurcomp_core.nets import triton_encode, triton_mlp

if TYPE_CHECKING:
    from neurcomp_core.fit.trainer import Trainer

#: Steps before one is recorded: the first compiles kernels.
_WARM = 3


class DeviceStep:
    """Steps of `trainer`, whose parameters and optimiser's state it updates in place.

    Parameters
    ----------
    trainer : Trainer
        Its parameters must not be changed by anything else from here on; its quantisers may.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        device, layout = trainer.device, trainer.network.layout
        self._precision = trainer.precision
        self._cube = trainer.sampler.cube(layout)
        # The total variation is of float32 tables.
        half = self._precision == "float16" and trainer.variation is None
        levels = [int(s) * layout.features for s in layout.sizes]
        matrices = [[p.numel()] if p.numel() else [] for p in trainer.parameters[1:]]
        self._groups = Groups.of(levels + [n for part in matrices for n in part], device)
        self._parameters: list[Parameters] = []
        first = 0
        for i, (p, sizes) in enumerate(zip(trainer.parameters, [levels, *matrices], strict=True)):
            values = p.detach()
            # Torch keeps no state of arrays without elements either.
            state = trainer.optimiser.state[p] if p.numel() else {}
            for name in ("exp_avg", "exp_avg_sq"):
                state.setdefault(name, torch.zeros_like(values))
            state.setdefault("step", torch.zeros((), device=device))
            self._parameters.append(
                Parameters(
                    values,
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    torch.zeros_like(values),
                    torch.empty_like(values, dtype=torch.float16 if half and not i else torch.float32),
                    None if trainer.origin is None else trainer.origin[i].contiguous(),
                    Blocks.of(sizes, first, device),
                )
            )
            first += len(sizes)
        self._counts = [trainer.optimiser.state[p]["step"] for p in trainer.parameters if p.numel()]
        self._count = int(self._counts[0])
        self._rates = torch.zeros(2, device=device)
        self._squared = torch.zeros((), device=device)
        self._encoded = torch.empty(
            layout.width, trainer.sampler.points, device=device, dtype=torch.float16 if half else torch.float32
        )
        self._quantisers: object = None
        self._rounding: bool | None = None
        self._eager = {True: 0, False: 0}
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self._recordable = (
            device.type == "cuda"
            and trainer.variation is None
            and trainer.sampler.resident
            and hasattr(torch.cuda.CUDAGraph, "register_generator_state")
        )

    def __call__(self, rounded: bool) -> torch.Tensor:
        """One step at the optimiser's learning rate; the squared error before it, which the next step overwrites."""
        self._prepare(rounded)
        if rounded in self._graphs:
            self._graphs[rounded].replay()
        elif self._recordable and self._eager[rounded] >= _WARM:
            self._record(rounded)
        else:
            self._eager[rounded] += 1
            self._step(rounded)
        return self._squared

    def _prepare(self, rounded: bool) -> None:
        """What changes between steps, in memory that kernels read it from."""
        trainer = self._trainer
        self._count += 1
        options = trainer.optimiser.param_groups[0]
        beta1, beta2 = options["betas"]
        self._rates[0].fill_(float(options["lr"]) / (1 - beta1**self._count))
        self._rates[1].fill_(1 / math.sqrt(1 - beta2**self._count))
        quantisers = (trainer.step, trainer.codes, trainer.unit) if rounded else None
        if quantisers != self._quantisers or rounded != self._rounding:
            self._quantisers, self._rounding = quantisers, rounded
            self._refresh(rounded)

    @torch.no_grad()
    def _refresh(self, rounded: bool) -> None:
        """Working parameters and figures of groups, after quantisers have changed."""
        trainer = self._trainer
        if rounded:
            steps = torch.from_numpy(trainer.quantiser_steps()).to(self._groups.steps)
            self._groups.steps.copy_(steps)
            self._groups.pressures.copy_(trainer.pressure() / (math.log(2) * steps))
        means = [part.abs().mean() for part in trainer.split(trainer.parameters)]
        self._groups.sizes.copy_(torch.stack(means))
        self._groups.found.zero_()
        exact = trainer.rounded() if rounded else trainer.parameters
        for part, value in zip(self._parameters, exact, strict=True):
            part.working.copy_(value if part.origin is None else value + part.origin)

    def _record(self, rounded: bool) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._trainer.sampler.generator)
        torch.cuda.synchronize()
        # Other threads of a program, such as ParaView's, may go on with theirs.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._step(rounded)
        self._graphs[rounded] = graph
        graph.replay()

    def _step(self, rounded: bool) -> None:
        trainer = self._trainer
        layout = trainer.network.layout
        table, *matrices = self._parameters
        weights = tuple(part.working for part in matrices)
        points, targets, shares = trainer.sampler.batch()
        triton_encode.forward(points, table.working, layout, self._cube, self._encoded)
        output = triton_mlp.forward(self._encoded, weights, self._precision).requires_grad_()
        squared, loss = loss_of(trainer, output, targets, shares)
        (upstream,) = torch.autograd.grad(loss, output)
        self._squared.copy_(squared.detach())
        below, gradients = triton_mlp.backward(self._encoded, upstream.contiguous(), weights, self._precision)
        triton_encode.backward(points, below, layout, self._cube, table.gradient)
        if trainer.variation is not None:
            trainer.variation.add_gradient(table.working, trainer.settings.tv, table.gradient)
        for part, found in zip(matrices, gradients, strict=True):
            part.gradient.copy_(found)
        options = trainer.optimiser.param_groups[0]
        for part in self._parameters:
            part.update(self._groups, self._rates, rounded, options["betas"], options["eps"])
        self._groups.settle()
        for count in self._counts:
            count.add_(1)


def fits(trainer: Trainer) -> bool:
    """Whether the kernels take the trainer's perceptron."""
    return triton_mlp.fits(tuple(trainer.parameters[1:]))
