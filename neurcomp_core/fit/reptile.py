"""Meta-learned starts: Reptile around the training of hash-grid networks.

Nichol, Achiam, Schulman: "On First-Order Meta-Learning Algorithms", arXiv 1803.02999, algorithms 1 (serial) and 2
(batched): from the start θ, a few steps of training on one task's field lead to φ; then θ ← θ + ε (φ − θ), in the
batched version with the mean of φ over some tasks, ε falling linearly to 0 (section 7). As starts of volumetric
coordinate networks: arXiv 2401.08840.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core import threads
from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import network_of
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import InputError, Interrupted
from neurcomp_core.field import Field
from neurcomp_core.fit.hashgrid import shape_for
from neurcomp_core.fit.trainer import Trainer
from neurcomp_core.init_file import Init, InitRecord
from neurcomp_core.nets.devices import device_of
from neurcomp_core.nets.network import initial_parameters

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid, HashGridRecord


@dataclass(frozen=True)
class Plan:
    """How a start is learned.

    Attributes
    ----------
    rounds : int
        Outer steps.
    inner : int
        Steps of training on a task's field, each with a fresh optimiser.
    outer_rate : float
        ε of the first outer step, over 0 up to 1; it falls linearly to 0.
    tasks : int
        Of one outer step: 1 is serial Reptile, more is batched.
    """

    rounds: int = 30
    inner: int = 200
    outer_rate: float = 0.7
    tasks: int = 1

    def __post_init__(self) -> None:
        for name, high in (("rounds", 10**6), ("inner", 10**6), ("tasks", 10**4)):
            if not 1 <= getattr(self, name) <= high:
                raise InputError(f"meta-training: {name}: expected 1 to {high}, got {getattr(self, name)}")
        if not 0 < self.outer_rate <= 1:
            raise InputError(f"meta-training: outer rate: expected over 0, up to 1, got {self.outer_rate}")


def meta_train(
    fields: Sequence[Field], budget: int, settings: HashGrid, plan: Plan, context: Context, name: str = ""
) -> Init:
    """Learn a start for fields like these.

    Parameters
    ----------
    fields : sequence of Field
        Tasks: any sizes, the same number of components and of axes with more than one sample, not constant.
    budget : int
        Bytes of stream that networks are shaped for, on the first field; the start serves other sizes as well.
    settings : HashGrid
        Network and inner training.
    plan : Plan
    context : Context
        The same seed, threads and device give the same start.
    name : str
        What files and messages call it.

    Raises
    ------
    InputError
        If the fields do not go together.
    Interrupted
        With the start so far, an `Init`.
    """
    _check(fields)
    device = device_of(context.device)
    # The coarsest resolution must be every field's.
    shortest = min(max(field.values.shape[:3]) for field in fields)
    settings = replace(settings, base=min(settings.base, max(2, shortest)), delta_init=False)
    record = shape_for(fields[0], budget, settings)
    network = network_of(record, ArraySpec(fields[0].values.shape, fields[0].values.dtype))
    head = InitRecord(
        record.log2_table, record.levels, record.features, record.base, record.growth, record.width, record.hidden,
        network.layout.dims, network.outputs, name, record.smooth,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(context.seed)
    theta = [
        p.numpy() for p in initial_parameters(network.layout, record.width, record.hidden, network.outputs, generator)
    ]
    order = _order(len(fields), plan.rounds * plan.tasks, context.seed)
    try:
        with threads.limit(context.threads):
            for i in range(plan.rounds):
                context.progress.update(i / plan.rounds, f"round {i + 1}/{plan.rounds}")
                found = [
                    _adapted(fields[order[k]], record, settings, replace(context, seed=context.seed + k), device,
                             theta, plan.inner, budget)
                    for k in range(i * plan.tasks, (i + 1) * plan.tasks)
                ]  # fmt: skip
                rate = plan.outer_rate * (1 - i / plan.rounds)
                theta = outer_step(theta, found, rate)
    except Interrupted as stop:
        raise type(stop)(str(stop), Init.made(head, theta)) from stop
    context.progress.update(1.0, "done")
    return Init.made(head, theta)


def outer_step(theta: Sequence[np.ndarray], found: Sequence[Sequence[np.ndarray]], rate: float) -> list[np.ndarray]:
    """``θ + ε (mean φ − θ)``, array by array; `found` has the φ of each task."""
    means = [np.mean(np.stack(arrays), axis=0) for arrays in zip(*found, strict=True)]
    return [(p + np.float32(rate) * (m - p)).astype(np.float32) for p, m in zip(theta, means, strict=True)]


def _adapted(
    field: Field,
    record: HashGridRecord,
    settings: HashGrid,
    context: Context,
    device: torch.device,
    theta: Sequence[np.ndarray],
    steps: int,
    budget: int,
) -> list[np.ndarray]:
    """φ: where training on a field leads from θ, under quantisers: a start must be cheap to code, too."""
    trainer = Trainer(field, record, settings, context, device, [torch.from_numpy(p.copy()) for p in theta])
    trainer.adapt(steps, budget)
    return trainer.weights_of_network()


def _order(tasks: int, count: int, seed: int) -> list[int]:
    """Numbers of `count` tasks: all once in random order, then again in another."""
    rng = np.random.default_rng(seed)
    return [int(t) for _ in range(-(-count // tasks)) for t in rng.permutation(tasks)][:count]


def _check(fields: Sequence[Field]) -> None:
    if not fields:
        raise InputError("meta-training: there is no field to learn from")
    kinds = {}
    for field in fields:
        axes = sum(n > 1 for n in field.values.shape[:3]) or 1
        kinds.setdefault((axes, field.values.shape[3] if field.values.ndim == 4 else 1), field.name)
        low, high = field.limits
        if not low < high:
            raise InputError(f"meta-training: array '{field.name}' is constant; leave it out")
    if len(kinds) > 1:
        listing = ", ".join(f"'{name}' {axes} axes, {c} components" for (axes, c), name in kinds.items())
        raise InputError(f"meta-training: fields must agree in axes and components, got {listing}; choose with --array")
