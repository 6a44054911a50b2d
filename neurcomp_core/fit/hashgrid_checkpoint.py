"""What a checkpoint keeps of a hash-grid network in training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core.fit.checkpoint import Checkpoint
from neurcomp_core.fit.streaming import BrickSampler

if TYPE_CHECKING:
    from neurcomp_core.fit.trainer import Trainer


def state_of(trainer: Trainer, at: int, running: float | None) -> dict[str, np.ndarray]:
    """All that a run needs to go on after `at` steps, as arrays; `running` is its mean loss."""
    numbers = [at, trainer.step, trainer.unit, trainer.done, math.nan if running is None else running]
    found = {
        "numbers": np.array(numbers, np.float64),
        "codes": np.frombuffer(trainer.codes, np.uint8),
        "generator": trainer.generator.get_state().numpy(),
    }
    if trainer.sampler.generator is not trainer.generator:
        found["sampler"] = trainer.sampler.generator.get_state().numpy()
    if isinstance(trainer.sampler, BrickSampler):
        found["drawn"] = np.array(trainer.sampler.drawn)
    for i, p in enumerate(trainer.parameters):
        found[f"p{i}"] = p.detach().cpu().numpy()
        for name, value in trainer.optimiser.state[p].items():
            found[f"{name}{i}"] = value.cpu().numpy()
    return found


def restored(trainer: Trainer, checkpoint: Checkpoint) -> tuple[int, float | None]:
    """Put a trainer where it was; its steps so far, and its mean loss.

    Raises
    ------
    InputError
        If the state is another network's.
    """
    stored = checkpoint.state or {}
    try:
        at, step, unit, done, running = (float(v) for v in stored["numbers"])
        trainer.codes = stored["codes"].tobytes()
        trainer.generator.set_state(torch.from_numpy(np.array(stored["generator"], np.uint8)))
        if trainer.sampler.generator is not trainer.generator and "sampler" in stored:
            trainer.sampler.generator.set_state(torch.from_numpy(np.array(stored["sampler"], np.uint8)))
        if isinstance(trainer.sampler, BrickSampler) and "drawn" in stored:
            trainer.sampler.drawn = int(stored["drawn"])
        for i, p in enumerate(trainer.parameters):
            value = torch.from_numpy(stored[f"p{i}"])
            if value.shape != p.shape:
                raise ValueError(f"parameters {i}: expected shape {tuple(p.shape)}, got {tuple(value.shape)}")
            p.data.copy_(value)
            trainer.optimiser.state[p] = {
                name: torch.from_numpy(np.array(stored[f"{name}{i}"], np.float32)).to(p.device)
                for name in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}{i}" in stored
            }
        trainer.unit, trainer.done = unit, int(done)
        if trainer.codes:
            trainer.set_step(step)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise checkpoint.damaged(error) from error
    return int(at), None if math.isnan(running) else running
