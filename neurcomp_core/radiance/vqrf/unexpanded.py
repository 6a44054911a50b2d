"""What is decoded, as it is stored: rows, and the features of kept rows and of codes in one table."""

from __future__ import annotations

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid, SharedModel
from neurcomp_core.radiance.vqrf.quantise import Symbols
from neurcomp_core.radiance.vqrf.rows import links_of


def shared_model(symbols: Symbols) -> SharedModel:
    """The field that `Symbols.model` expands, with the same numbers; FormatError if there is no such field."""
    density, table, slots, network = symbols.table()
    shell, links = symbols.shell, links_of(symbols.occupied)
    slots = np.ascontiguousarray(slots, np.int32)
    try:
        if shell.kind == "sparse":
            sh = np.ascontiguousarray(table.reshape(len(table), 3, table.shape[1] // 3))
            return SharedGrid(links, density, slots, sh, shell.box, shell.background)
        layers = tuple(zip(network[::2], network[1::2], strict=True))
        mask = None if symbols.occupied.all() else dilated(symbols.occupied)
        return SharedDvgo(
            links, density, slots, table, shell.rest, shell.box, shell.shift, shell.unit, layers, shell.frequencies,
            shell.direct, mask,
        )  # fmt: skip
    except (InputError, ValueError) as error:
        raise FormatError(f"a compressed radiance field makes no sense: {error}") from None
