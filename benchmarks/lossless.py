"""Bytes of integer volumes without loss: this project's file against SZ3, zstd and blosc2.

Ours is the whole ``.nvc`` file, theirs the compressed chunk alone (one chunk, strongest settings; of blosc2 the best of
its shuffles), so that their container does not count. Each of ours is decoded and compared to the last bit.

    python benchmarks/lossless.py VOLUME.npy … | --data FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from machine import describe

from neurcomp_core.codec import Context
from neurcomp_core.errors import NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import MaxError


def chunk(values: np.ndarray, **how: object) -> int:
    """Bytes that an HDF5 filter makes of an array."""
    with h5py.File("chunk.h5", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset("values", data=values, chunks=values.shape, **how)
        return data.id.get_storage_size()


def blosc2(values: np.ndarray) -> int:
    filters = (hdf5plugin.Blosc2.NOFILTER, hdf5plugin.Blosc2.SHUFFLE, hdf5plugin.Blosc2.BITSHUFFLE)
    return min(chunk(values, **hdf5plugin.Blosc2(cname="zstd", clevel=9, filters=f)) for f in filters)


def sz3(field: Field) -> int | None:
    try:
        return len(compress(field, MaxError(0), "sz3", Context(threads=1)).data)
    except NeurCompError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, help="a folder of .npy files; those of integers are taken")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    paths = options.volumes + sorted(options.data.glob("*.npy") if options.data else [])
    print(describe())
    print(f"{'volume':>24} {'raw':>10} {'ours':>10} {'SZ3':>10} {'zstd':>10} {'blosc2':>10} {'best peer':>10} {'s':>6}")
    for path in paths:
        values = np.load(path)
        if values.dtype.kind not in "iu":
            continue
        field = Field(values)
        start = time.perf_counter()
        data = compress(field, MaxError(0), "wavelet", Context(threads=options.threads)).data
        seconds = time.perf_counter() - start
        assert np.array_equal(decompress(data)[0].values, values), "not lossless"
        peers = [sz3(field), chunk(values, **hdf5plugin.Zstd(clevel=22)), blosc2(values)]
        saved = len(data) / min(p for p in peers if p) - 1
        row = " ".join(f"{p or '-':>10}" for p in peers)
        print(f"{path.stem:>24} {values.nbytes:>10} {len(data):>10} {row} {saved:>+10.1%} {seconds:>6.1f}", flush=True)


if __name__ == "__main__":
    main()
