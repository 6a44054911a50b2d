"""From a field and a target to a stream: stages in their order, and a search for what a target leaves open."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

from neurcomp_core.container import section_cost
from neurcomp_core.errors import InputError, TargetError
from neurcomp_core.radiance.codec import RadianceContext, RadianceEncoded, Stage
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.evaluation import mean_psnr
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.radiance.vqrf import search, stages, stream
from neurcomp_core.radiance.vqrf.codebook import Learning
from neurcomp_core.radiance.vqrf.factors import Basis, Factors
from neurcomp_core.radiance.vqrf.finetune import Tuning, tuned
from neurcomp_core.radiance.vqrf.plan import Plan
from neurcomp_core.radiance.vqrf.quantise import Steps, Symbols, quantised
from neurcomp_core.radiance.vqrf.sensitivity import Sensitivity
from neurcomp_core.radiance.vqrf.stages import Material
from neurcomp_core.radiance.vqrf.thrift import Thrift, rounded
from neurcomp_core.search import Trial
from neurcomp_core.search import search as find
from neurcomp_core.target import Bytes, PsnrLoss, Target

# Plans that are tried before giving up, and settings of the steps' scale.
_PLANS, _TRIALS = 10, 12
# Scales of the steps between which the last search looks.
_SPAN = 1 / 64, 16.0
# Loss of PSNR that is left unused at least while a target of it is sought on few views.
_MARGIN = 0.02
# About what parameters, lengths and checksums take.
_FRAME = 200
# Share of a budget that is used up at least.
_FULL = 0.993
# dB that quantisation may cost where pruning and sharing have cost all that it may, or more.
_LEAST = 0.05

Coded = tuple[bytes, list[bytes]]
Figure = Callable[[Symbols, Coded], float]


@dataclass(frozen=True)
class Settings:
    """What codec `vqrf` is told; see there.

    Attributes
    ----------
    plan : Plan
    learning : Learning
    tuning, refining : Tuning
        Fine-tuning before and after quantisation; not done for 0 steps.
    loss : float
        dB that quantisation may cost where no target says more.
    thrift : float
        Integers are chosen by what their bits cost, this many times what they save; 0 chooses the nearest.
    """

    plan: Plan
    learning: Learning
    tuning: Tuning
    refining: Tuning
    loss: float
    thrift: float = 0.0


@dataclass(frozen=True, eq=False)
class Draft:
    """A field on its way.

    Attributes
    ----------
    plan : Plan
    factors : Factors
        As fine-tuned.
    stages : tuple of Stage
        So far.
    psnr : float
        In dB, by the judge.
    sensitivity : Sensitivity, optional
        If integers are to be chosen by their bits.
    thrift : Thrift, optional
        How they are.
    """

    plan: Plan
    factors: Factors
    stages: tuple[Stage, ...]
    psnr: float
    sensitivity: Sensitivity | None = None
    thrift: Thrift | None = None


def compress(
    volume: RadianceVolume, settings: Settings, target: Target | None, context: RadianceContext
) -> RadianceEncoded:
    """A stream that meets a target.

    Raises
    ------
    InputError
        If the target is of a kind that is not for radiance fields, or there are no images to judge a loss by.
    TargetError
        If it cannot be met; says what can.
    """
    if target is not None and not isinstance(target, (Bytes, PsnrLoss)):
        raise InputError(f"a radiance field is compressed to a ratio, bytes or psnr-loss, not to {target.label}")
    if isinstance(target, PsnrLoss) and context.unseen is None and context.views is None:
        raise InputError(f"{target}: the loss of PSNR is measured on images; give a data set")
    work = _Work(volume, settings, context)
    if target is None:
        return work.plain()
    return work.to_bytes(int(target.value)) if isinstance(target, Bytes) else work.to_loss(target)


class _Work:
    """One compression."""

    def __init__(self, volume: RadianceVolume, settings: Settings, context: RadianceContext) -> None:
        self.settings, self.context = settings, context
        self.place = Place.of(context.device, context.backend)
        context.progress.update(0.0, "weighing voxels")
        self.material = Material.of(volume, context, context.progress)
        self.before = self.material.judge.psnr(volume.model)
        self.tunes = self.material.views is not None and settings.tuning.steps > 0

    # ---------------------------------------------------------------------------------------------------- stages

    def stage(self, name: str, parts: dict[str, int], psnr: float) -> Stage:
        """With its PSNR, which without images is that of the same views of the uncompressed field."""
        photos = self.material.judge.photos
        return Stage(name if photos else f"{name} (to the uncompressed)", parts, psnr)

    def draft(self, plan: Plan) -> Draft:
        """A field as far as it does not depend on quantisation."""
        work, judge, progress = self.material, self.material.judge, self.context.progress
        factors, weights = stages.pruned(work, plan)
        done = [
            self.stage("uncompressed", stages.uncompressed_parts(work), self.before),
            self.stage("pruned", stages.row_parts(factors), judge.psnr(factors.model())),
        ]
        sensitivity = None
        if self.settings.thrift:
            # Rows, codes and numbers are then weighed by what pictures lose, which importance stands for otherwise.
            behind = work.volume.background if work.views is None else work.views.background
            sensitivity = Sensitivity.of(factors, weights, work.samples, behind, work.seed, progress, self.place)
            factors = factors.turned(Basis.of(factors.rows().features, weights, sensitivity.metric))
            weights = sensitivity.share
        part = progress.part(0.05, 0.15)
        factors = stages.shared(factors, weights, plan, self.settings.learning, work.seed, part)
        psnr = judge.psnr(factors.model())
        if len(factors.codes):
            done.append(self.stage("vector-quantised", stages.row_parts(factors), psnr))
        if self.tunes:
            assert work.views is not None
            part = progress.part(0.15, 0.55)
            after = tuned(factors, work.views, self.settings.tuning, work.seed, part, place=self.place)
            # A field that was perfect may only get worse.
            factors, psnr = max(((factors, psnr), (after, judge.psnr(after.model()))), key=lambda pair: pair[1])
            done.append(self.stage("fine-tuned", stages.row_parts(factors), psnr))
        return Draft(plan, factors, tuple(done), psnr, sensitivity)

    def budget(self, loss: float) -> float:
        """Mean squared error that a loss in dB allows, of a field as good as the uncompressed one."""
        return self.material.floor * (10 ** (loss / 10) - 1)

    def curves(self, draft: Draft) -> search.Curves:
        part = self.context.progress.part(0.6, 0.75)
        return search.measured(draft.factors, self.material.volume, self.material.probe, part)

    def refined(self, draft: Draft, curves: search.Curves, steps: Steps) -> Draft:
        """The field fine-tuned once more for what quantisation leaves of it."""
        if draft.sensitivity is not None:
            price = self.settings.thrift * curves.price(steps)
            draft = replace(draft, thrift=Thrift(draft.sensitivity, price))
        views, tuning = self.material.views, self.settings.refining
        if views is None or not self.tunes or not tuning.steps:
            return draft
        part = self.context.progress.part(0.75, 0.9)
        rounding = None if draft.thrift is None else partial(draft.thrift.symbols, steps=steps)
        after = tuned(draft.factors, views, tuning, self.material.seed + 1, part, steps, rounding, self.place)
        judge = self.material.judge
        best = max((draft.factors, after), key=lambda f: judge.psnr(rounded(f, steps, draft.thrift).model()))
        return replace(draft, factors=best)

    def plain(self) -> RadianceEncoded:
        """What the codec's parameters make of a field, without a target."""
        draft = self.draft(self.settings.plan)
        curves = self.curves(draft)
        if draft.sensitivity is None:
            steps = curves.within_error(self.budget(self.settings.loss))
            draft = self.refined(draft, curves, steps)
            symbols = quantised(draft.factors, steps)
            return self.closed(draft, symbols, stream.encode(symbols))
        judge = self.material.judge
        # The error that quantisation may bring the field to; without images it is the change itself that is seen.
        allowed = self.budget(self.settings.loss) + (self.material.floor if judge.photos else 0.0)
        now = 10 ** (-draft.psnr / 10)
        allowed = max(allowed, now * 10 ** (_LEAST / 10))
        draft = self.refined(draft, curves, steps := curves.within_error(allowed - now))
        best = self.scaled(draft, steps, lambda s, _: 10 ** (-judge.psnr(s.model()) / 10), allowed, rising=True)
        return self.closed(draft, *best.result)

    def closed(self, draft: Draft, symbols: Symbols, coded: Coded) -> RadianceEncoded:
        params, sections = coded
        self.context.progress.update(0.98, "measuring what is decoded")
        psnr = self.material.judge.psnr(stream.decode(params, sections).model())
        if not self.material.judge.photos:
            params = stream.stated(params, psnr)
        last = (
            self.stage("quantised", stages.symbol_parts(symbols), psnr),
            self.stage("coded", stages.coded_parts(params, sections), psnr),
        )
        return RadianceEncoded(params, tuple(sections), stages=(*draft.stages, *last))

    # --------------------------------------------------------------------------------------------------- targets

    def to_bytes(self, budget: int) -> RadianceEncoded:
        """The best field of 97 to 100 % of a size: a plan that such a size suits, then steps that fill it."""
        plan = self.plan_for(budget)
        draft = self.draft(plan)
        curves = self.curves(draft)
        steps = curves.within_bytes(0.98 * budget - _FRAME)
        draft = self.refined(draft, curves, steps)
        best = self.scaled(draft, steps, _size, budget, rising=False)
        if best.figure > budget:
            raise TargetError(f"vqrf: {budget} bytes cannot be reached; {best.figure:.0f} bytes can", best.figure)
        # Sizes jump where many numbers are alike: then one part's steps alone fill the rest.
        for part in ("kept", "codes", "network"):
            if best.figure >= _FULL * budget:
                break
            best = self.scaled(draft, best.result[0].steps, _size, budget, rising=False, part=part)
        symbols, coded = best.result
        return self.closed(draft, symbols, coded)

    def plan_for(self, budget: int) -> Plan:
        """The richest plan, from the codec's own up or down, that leaves steps of a usual size for a budget."""
        plan, direction = self.settings.plan, 0
        for _ in range(_PLANS):
            coarse, fine = self.quick(plan, 0.4, 1 / 64)
            if coarse > budget and direction <= 0:
                plan, direction = plan.sparser(), -1
            elif fine < budget and direction >= 0 and plan.richer() != plan:
                plan, direction = plan.richer(), 1
            else:
                return plan
        return plan

    def quick(self, plan: Plan, *scales: float) -> list[int]:
        """Bytes of a plan with steps of some scales, about: by a codebook that has hardly been learnt."""
        factors, weights = stages.pruned(self.material, plan)
        hasty = replace(self.settings.learning, rounds=min(self.settings.learning.rounds, 5))
        factors = stages.shared(factors, weights, plan, hasty, self.material.seed)
        steps = search.scales_of(factors)
        return [_nbytes(*stream.encode(quantised(factors, steps.scaled(scale)))) for scale in scales]

    def to_loss(self, target: PsnrLoss) -> RadianceEncoded:
        """The smallest field of the richest plan that is needed for a loss of PSNR."""
        plan, lost = self.settings.plan, math.inf
        for _ in range(_PLANS):
            draft = self.draft(plan)
            lost = min(lost, self.before - draft.psnr)
            found = self.within(draft, target) if self.before - draft.psnr < target.value else None
            if found is not None:
                return found
            if plan.richer() == plan:
                break
            plan = plan.richer()
        raise TargetError(f"vqrf: {target} dB cannot be reached; {max(lost, 0.0):.3f} dB can", lost)

    def within(self, draft: Draft, target: PsnrLoss) -> RadianceEncoded | None:
        """A field whose loss is measured on all images, of the steps that just keep it; None if none do."""
        allowed, curves = target.value, self.curves(draft)
        ends = 10 ** (-(self.before - allowed) / 10) - 10 ** (-draft.psnr / 10)
        steps = curves.within_error(max(ends, 0.0))
        draft = self.refined(draft, curves, steps)
        judge = self.material.judge
        limit = allowed - min(_MARGIN, allowed / 4)
        for _ in range(4):
            # Losses may be gains: from the PSNR that is allowed, which is positive, not from that before.
            best = self.scaled(
                draft,
                steps,
                lambda symbols, coded: self.before + 10 - judge.psnr(symbols.model()),
                limit + 10,
                rising=True,
            )
            symbols, coded = best.result
            if best.figure > limit + 10:
                return None
            over = self.loss_of(symbols) - allowed
            if over <= 0:
                return self.closed(draft, symbols, coded)
            limit -= over + _MARGIN / 2
        return None

    def loss_of(self, symbols: Symbols) -> float:
        """Lost on all images that are to judge by, in dB."""
        return self._whole_psnr - self._measured(replace(self.material.volume, model=symbols.model()))

    @property
    def _judges(self) -> PosedImages:
        images = self.context.unseen or self.context.views
        assert images is not None
        return images

    @cached_property
    def _whole_psnr(self) -> float:
        return self._measured(self.material.volume)

    def _measured(self, volume: RadianceVolume) -> float:
        # As `files.compress` will measure it.
        return mean_psnr(volume, self._judges, place=self.place)

    def scaled(
        self, draft: Draft, steps: Steps, figure: Figure, limit: float, *, rising: bool, part: str = ""
    ) -> Trial[tuple[Symbols, Coded]]:
        """All steps, or those of one part, times the factor that brings a figure just below a limit."""
        base = quantised(draft.factors, steps)
        fixed = {name: stream.encode_part(base, name) for name in ("occupancy", "indices")}
        tried = 0

        def attempt(scale: float) -> tuple[float, tuple[Symbols, Coded]]:
            nonlocal tried
            tried += 1
            self.context.progress.update(min(0.9 + 0.005 * tried, 0.97), f"searching steps, trial {tried}")
            chosen = replace(steps, **{part: scale * getattr(steps, part)}) if part else steps.scaled(scale)
            thrift = None if draft.thrift is None else draft.thrift.scaled(1.0 if part else scale)
            symbols = rounded(draft.factors, chosen, thrift)
            coded = stream.encode(symbols, fixed)
            return figure(symbols, coded), (symbols, coded)

        slack = 0.001 if rising else 1 - _FULL
        return find(attempt, limit, 1.0, _SPAN, rising=rising, slack=slack, trials=_TRIALS)


def _size(symbols: Symbols, coded: Coded) -> float:
    del symbols
    return float(_nbytes(*coded))


def _nbytes(params: bytes, sections: list[bytes]) -> int:
    return len(params) + section_cost(sections)
