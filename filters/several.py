"""What filters that run several codecs on one array share: the choice of codecs, and one trial of each."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vtkmodules.vtkCommonCore import vtkCommand, vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, codec_by_name
from neurcomp_core.errors import Cancelled, InputError, NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.metrics import Quality
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.target import Target
from neurcomp_filters import pieces, resample
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.settings import CompressionSettings, codec_names


@dataclass(frozen=True, eq=False)
class Trial:
    """What a codec made of an array.

    Attributes
    ----------
    codec : str
    target : Target
    file_bytes : int
        Of the whole file.
    quality : Quality
    decoded : Field
    encode, decode : float
        Seconds; encoding includes the decoding that checks the target.
    """

    codec: str
    target: Target
    file_bytes: int
    quality: Quality
    decoded: Field
    encode: float
    decode: float


class SeveralCodecs(CompressionSettings):
    """Base of filters that try the chosen codecs on one array of the input; those that fail are warned of."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(nInputPorts=1, inputType="vtkDataObject", **ports)
        self._arrays = ArrayChoice(self)
        self._chosen = vtkDataArraySelection()
        for name in codec_names():
            self._chosen.AddArray(name)
        own = weakref.ref(self)

        def changed(*_: object) -> None:
            algorithm = own()
            if algorithm is not None:
                algorithm.Modified()

        self._chosen.AddObserver(vtkCommand.ModifiedEvent, changed)

    def GetPointDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["point"]

    def GetCellDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["cell"]

    def GetCodecSelection(self) -> vtkDataArraySelection:
        """Codecs to try; all by default."""
        return self._chosen

    def SetCodecs(self, *names: str) -> None:
        """Try just these codecs."""
        for name in names:
            codec_by_name(name)
        self._chosen.DisableAllArrays()
        for name in names:
            self._chosen.EnableArray(name)

    # ...................................................................................................... pipeline

    def FillInputPortInformation(self, port: int, info: Any) -> int:
        # Any data object: VTK would hand over the blocks of a multiblock one by one, and the last would be the result.
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
        return 1

    def RequestUpdateExtent(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        pieces.request_all(inInfo[0].GetInformationObject(0))
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source = self.GetInputData(inInfo, 0, 0)
        outputs = [self.GetOutputData(outInfo, port) for port in range(self.GetNumberOfOutputPorts())]
        self._guarded((source.GetMTime(),), outputs, lambda: self._work(source, outputs))
        return 1

    def _work(self, source: vtkDataObject, outputs: list[Any]) -> None:
        raise NotImplementedError

    # .......................................................................................................... work

    def names(self) -> list[str]:
        """Codecs that are chosen.

        Raises
        ------
        InputError
            If none is.
        """
        chosen = [name for name in codec_names() if self._chosen.ArrayIsEnabled(name)]
        if not chosen:
            raise InputError(f"no codec is chosen; choose at least one of {', '.join(codec_names())}")
        return chosen

    def field(self, source: vtkDataObject) -> Field:
        """The array to try codecs on: the first one of those that are chosen."""
        resample.check_regular(source)
        found = self._arrays.fields(source)
        if len(found) > 1:
            names = ", ".join(f"'{f.name}'" for f in found)
            self.Warn(f"this filter takes one array; of {names} it took '{found[0].name}': choose just one for another")
        return found[0]

    def trials(self, field: Field, targets: tuple[Target, ...]) -> Iterator[Trial]:
        """Try each chosen codec with each target.

        Raises
        ------
        InputError
            If not one succeeded, or the user stopped it.
        """
        whole = self._progress()
        cases = [(name, target) for name in self.names() for target in targets]
        failed: list[str] = []
        for i, (name, target) in enumerate(cases):
            inner = _part(whole, i / len(cases), (i + 1) / len(cases), f"{name}, {target}", self._time_limit)
            try:
                yield self._trial(field, name, target, inner)
            except Cancelled as stop:
                raise InputError(f"{stop} (it was stopped at {name}, {target})") from stop
            except NeurCompError as error:
                failed.append(f"{name}, {target}: {error}")
        if len(failed) == len(cases):
            raise InputError("no codec succeeded: " + "; ".join(failed))
        if failed:
            self.Warn("left out: " + "; ".join(failed))
        whole.update(1.0, "done")

    def _trial(self, field: Field, name: str, target: Target, progress: Progress) -> Trial:
        context = self.context(progress)
        start = time.perf_counter()
        data = compress(field, target, self._preset_of(name), context).data
        middle = time.perf_counter()
        (decoded,) = decompress(data, context=context)
        end = time.perf_counter()
        quality = metrics.measure(field.values, decoded.values, field.mask)
        return Trial(name, target, len(data), quality, decoded, middle - start, end - middle)

    def _preset_of(self, name: str) -> Codec:
        """The codec with the preset that is set, or with its own defaults where it has none of that name."""
        codec = codec_by_name(name)
        return codec.from_preset(self._preset) if self._preset in codec.presets else codec()


def _part(whole: Progress, low: float, high: float, title: str, time_limit: float) -> Progress:
    def report(fraction: float, text: str) -> None:
        whole.update(low + (high - low) * fraction, f"{title}: {text}" if text else title)

    return Progress(report, time_limit if time_limit > 0 else None)
