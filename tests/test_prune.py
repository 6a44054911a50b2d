"""Pruning and quantisation-aware training: what goes, what stays away, and that training on wins back what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from neurcomp_core.errors import Cancelled, InputError
from neurcomp_core.fit.prune import magnitude_masks, prune_and_retrain, pruned, retrain, shares
from neurcomp_core.fit.quantise import Codebooks, Steps
from neurcomp_core.progress import Progress

torch = pytest.importorskip("torch", reason="needs torch, from the extra train")

RATE = 3e-3


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# --------------------------------------------------------------------------------------------------------------- masks


def test_one_threshold_over_all_arrays() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((8, 9)), 10 * rng.standard_normal((4, 5)), rng.standard_normal(7)]
    masks = magnitude_masks(weights, 0.4)
    magnitudes = np.sort(np.concatenate([np.abs(w).ravel() for w in weights]))
    gone = int(0.4 * magnitudes.size)
    assert sum(int((~m).sum()) for m in masks) == gone
    for weight, mask in zip(weights, masks, strict=True):
        np.testing.assert_array_equal(mask, np.abs(weight) > magnitudes[gone - 1])
        np.testing.assert_array_equal(pruned([weight], [mask])[0], np.where(mask, weight, 0))
    # The array of large values keeps more of them.
    assert masks[1].mean() > masks[0].mean()


def test_importance_compares_within_arrays() -> None:
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal((30, 30)), 100 * rng.standard_normal((30, 30))]
    factors = [1 / float(np.sqrt((w**2).mean())) for w in weights]
    masks = magnitude_masks(weights, 0.5, factors)
    assert abs(masks[0].mean() - masks[1].mean()) < 0.05
    important = np.full((30, 30), 1e12)
    assert magnitude_masks(weights, 0.5, [important, 1.0])[0].all()


def test_equal_magnitudes_go_in_order() -> None:
    masks = magnitude_masks([np.ones(4), -np.ones(4)], 0.5)
    assert [m.tolist() for m in masks] == [[False] * 4, [True] * 4]
    assert all(m.all() for m in magnitude_masks([np.zeros(3)], 0.0))


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="expected 0 to less than 1"):
        magnitude_masks([np.ones(3)], share)


def test_rounds_end_at_the_share() -> None:
    assert shares(0.7, 1) == [0.7]
    found = shares(0.9, 6)
    assert found[-1] == 0.9
    assert found == sorted(found)
    assert found[0] > 0.9 / 6


# ------------------------------------------------------------------------------------------------------------ training


class Fit:
    """A small perceptron that has learned a function, and its loss on new samples."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        rng = np.random.default_rng(0)
        shapes = [(32, 2), (32,), (32, 32), (32,), (1, 32), (1,)]
        self.start = [(rng.standard_normal(s) / np.sqrt(s[-1])).astype(np.float32) for s in shapes]
        parameters = self.parameters(self.start)
        retrain(parameters, [None] * 6, self.loss, 800, 1e-2)
        self.start = [p.detach().numpy().copy() for p in parameters]

    @staticmethod
    def parameters(arrays: Sequence[np.ndarray]) -> list:
        return [torch.tensor(a, requires_grad=True) for a in arrays]

    def loss(self, parameters: Sequence) -> Any:
        x = torch.rand(256, 2, generator=self.generator) * 2 - 1
        return self.error(parameters, x)

    def error(self, parameters: Sequence, x: Any) -> Any:
        y = torch.tanh(torch.nn.functional.linear(x, parameters[0], parameters[1]))
        y = torch.tanh(torch.nn.functional.linear(y, parameters[2], parameters[3]))
        y = torch.nn.functional.linear(y, parameters[4], parameters[5])
        return ((y[:, 0] - torch.sin(4 * x[:, 0]) * torch.cos(3 * x[:, 1])) ** 2).mean()

    def measured(self, parameters: Sequence) -> float:
        side = torch.linspace(-1, 1, 40)
        x = torch.cartesian_prod(side, side)
        with torch.no_grad():
            return float(self.error([torch.as_tensor(p) for p in parameters], x))


@pytest.fixture(scope="module")
def fit() -> Fit:
    return Fit()


MATRICES = (True, False, True, False, True, False)


def test_retraining_wins_back_what_pruning_cost_and_keeps_the_holes(fit: Fit) -> None:
    whole = fit.measured(fit.start)
    errors: dict[str, float] = {}
    for name, steps, rounds in (("not", 0, 1), ("once", 300, 1), ("rounds", 300, 4)):
        parameters = fit.parameters(fit.start)
        masks = prune_and_retrain(parameters, MATRICES, 0.6, fit.loss, steps, RATE, rounds)
        errors[name] = fit.measured(parameters)
        zeros = 0
        for may, mask, parameter in zip(MATRICES, masks, parameters, strict=True):
            assert (mask is None) != may
            if mask is not None:
                assert (parameter.detach().numpy()[~mask] == 0).all()
                zeros += int((~mask).sum())
        assert zeros == int(0.6 * (64 + 1024 + 32))
    assert errors["not"] > 10 * whole
    assert errors["once"] < errors["not"] / 10
    assert errors["rounds"] < errors["not"] / 10


def test_pruning_without_steps_is_the_mask_alone(fit: Fit) -> None:
    parameters = fit.parameters(fit.start)
    masks = prune_and_retrain(parameters, MATRICES, 0.3, fit.loss, 0, RATE)
    for before, after, mask in zip(fit.start, parameters, masks, strict=True):
        np.testing.assert_array_equal(after.detach().numpy(), before if mask is None else np.where(mask, before, 0))


def test_a_stop_is_heard(fit: Fit) -> None:
    said: list[float] = []

    def report(done: float, _: str) -> None:
        said.append(done)
        if done > 0.4:
            progress.cancel()

    progress = Progress(report)
    parameters = fit.parameters(fit.start)
    with pytest.raises(Cancelled):
        prune_and_retrain(parameters, MATRICES, 0.5, fit.loss, 100, RATE, 2, progress)
    assert said == sorted(said)
    assert 0.4 < said[-1] < 0.5


# ---------------------------------------------------------------------------------------------------------- quantisers


def tuned(fit: Fit, make: Callable[[Sequence], Codebooks | Steps], masks: list | None = None) -> tuple[float, float]:
    """Errors of quantised values before and after tuning under the quantiser."""
    parameters = fit.parameters(fit.start)
    if masks is not None:
        retrain(parameters, masks, fit.loss, 0, RATE)
    through = make(parameters)
    with torch.no_grad():
        before = fit.measured(through(parameters))
    held = [*parameters, *(through.centres if isinstance(through, Codebooks) else [])]
    retrain(held, [*(masks or [None] * 6), *[None] * (len(held) - 6)], fit.loss, 300, RATE, through)
    if isinstance(through, Codebooks):
        books = through.books(parameters)
        values = [p.detach().numpy() if b is None else b.values for b, p in zip(books, parameters, strict=True)]
        assert all(b is None or (np.diff(b.centres) >= 0).all() for b in books)
    else:
        values = [q * s for q, s in zip(through.symbols(parameters), through.steps, strict=True)]
    # What would be stored is what was trained.
    for a, b in zip(values, through(parameters), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-6, atol=1e-7)
    return before, fit.measured([np.asarray(v, np.float32) for v in values])


def test_codebooks_trained_under_lose_less(fit: Fit) -> None:
    before, after = tuned(fit, lambda p: Codebooks(p, [None, None, 8, None, 8, None]))
    assert after < before / 2


def test_steps_trained_under_lose_less(fit: Fit) -> None:
    before, after = tuned(fit, lambda _: Steps([0.25, 0.1, 0.15, 0.1, 0.15, 0.05]))
    assert after < before / 2


def test_what_is_pruned_stays_zero_in_a_codebook(fit: Fit) -> None:
    mask = magnitude_masks([fit.start[2]], 0.5)[0]
    masks = [None, None, mask, None, None, None]
    made: list[Codebooks] = []
    held: list[Sequence] = []

    def make(parameters: Sequence) -> Codebooks:
        held.append(parameters)
        made.append(Codebooks(parameters, [None, None, 8, None, None, None], masks))
        return made[-1]

    before, after = tuned(fit, make, masks)
    assert after < before
    (centres,) = made[0].centres
    (book,) = (b for b in made[0].books(held[0]) if b is not None)
    assert len(centres) == 7
    assert len(book.centres) <= 8
    assert (book.values[~mask] == 0).all()
    assert (book.values[mask] != 0).all()


def test_codes_follow_weights_that_move() -> None:
    parameter = torch.tensor([[0.0, 0.1, 1.0, 1.1]], requires_grad=True)
    through = Codebooks([parameter], [2])
    np.testing.assert_allclose(through.centres[0].detach().numpy(), [0.05, 1.05])
    with torch.no_grad():
        parameter[0, 1] = 0.9
    (seen,) = through([parameter])
    np.testing.assert_allclose(seen.detach().numpy(), [[0.05, 1.05, 1.05, 1.05]], atol=1e-6)
    (seen * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    assert parameter.grad is not None
    assert through.centres[0].grad is not None
    np.testing.assert_array_equal(parameter.grad.numpy(), [[1, 2, 3, 4]])
    # A centre learns from all that is assigned to it.
    np.testing.assert_array_equal(through.centres[0].grad.numpy(), [1, 9])
