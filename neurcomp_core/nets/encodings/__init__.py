"""Input encodings of coordinate networks, one file each: what a perceptron is given of a sample's position."""

from neurcomp_core.nets.encodings.base import Encoding, Sizes
from neurcomp_core.nets.encodings.frequency import Frequency
from neurcomp_core.nets.encodings.grids import DenseGrid, HashTables
from neurcomp_core.nets.encodings.identity import Identity
from neurcomp_core.nets.encodings.oneblob import OneBlob
from neurcomp_core.nets.encodings.spherical import Spherical
from neurcomp_core.nets.encodings.tensors import CP, VM, TriPlane
from neurcomp_core.nets.encodings.triangle import Triangle

#: All encodings by the name that a user types; files hold an encoding's `number`.
ENCODINGS: dict[str, type[Encoding]] = {
    kind.name: kind
    for kind in (Identity, Frequency, Triangle, OneBlob, DenseGrid, HashTables, TriPlane, CP, VM, Spherical)
}

__all__ = ["ENCODINGS", "Encoding", "Sizes"]
