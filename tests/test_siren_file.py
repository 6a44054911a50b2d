"""Files of the 2021 reference: their layout to the byte, what is refused, and the way into and out of .nvc files."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from neurcomp_cli.main import app
from neurcomp_core import siren_file
from neurcomp_core.container import Container
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.metrics import measure
from neurcomp_core.nets.siren import Siren, axis_coordinates, forward, lattice_points
from neurcomp_core.pipeline import decompress
from neurcomp_core.siren_exchange import export_network, import_network, precision_of
from neurcomp_filters import io

Parameters = list[np.ndarray]


def network(width: int = 16, layers: int = 3, seed: int = 0, outputs: int = 1, residual: bool = True,
            omega: float = 30.0) -> tuple[Siren, Parameters]:  # fmt: skip
    """A network as it is before training, smooth but not flat, whose outputs run from -1 to 1."""
    net = Siren(width, layers, 3, outputs, omega, residual)
    rng = np.random.default_rng(seed)
    found: Parameters = []
    for k, (rows, columns) in enumerate(net.shapes):
        bound = 0.15 if k == 0 else math.sqrt(6 / columns) / omega
        found.append(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32))
        found.append(rng.uniform(-0.1, 0.1, rows).astype(np.float32))
    out = outputs_of(net, found, (7, 8, 9))
    low, high = float(out.min()), float(out.max())
    found[-2] = (found[-2] * (2 / (high - low))).astype(np.float32)
    found[-1] = ((found[-1] - low) * (2 / (high - low)) - 1).astype(np.float32)
    return net, found


def outputs_of(net: Siren, parameters: Parameters, shape: Sequence[int]) -> np.ndarray:
    """In float64, ``(z, y, x[, c])``."""
    points = lattice_points(axis_coordinates(shape)).astype(np.float64)
    return forward(net, parameters, points).reshape(*shape, *([net.outputs] if net.outputs > 1 else []))


def same(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


# ------------------------------------------------------------------------------------------------------ the layout


def by_hand(width: int, layers: int, bits: int, residual: bool = True, outputs: int = 1) -> tuple[bytes, Parameters]:
    """A file written from the description of the layout alone, and what it says."""
    rng = random.Random(7)
    inner = (layers - 1) * (2 if residual else 1)
    data = bytes([layers, 3, outputs, int(residual)]) + struct.pack(f"<{layers}I", *[width] * layers) + bytes([bits])
    said: Parameters = []

    def floats(count: int) -> list[float]:
        nonlocal data
        values = [struct.unpack("<f", struct.pack("<f", rng.uniform(-1, 1)))[0] for _ in range(count)]
        data += struct.pack(f"<{count}f", *values)
        return values

    said += [np.array(floats(3 * width), np.float32).reshape(width, 3), np.array(floats(width), np.float32)]
    for _ in range(inner):
        centres = floats(2**bits)
        labels = [rng.randrange(2**bits) for _ in range(width * width)]
        text = "".join(f"{label:0{bits}b}" for label in labels)
        # The last piece may be shorter; as a number it has its digits at the low end.
        data += bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        if bits % 8:
            data += struct.pack("<I", labels[-1])
        said.append(np.array([centres[label] for label in labels], np.float32).reshape(width, width))
        said.append(np.array(floats(width), np.float32))
    said += [
        np.array(floats(outputs * width), np.float32).reshape(outputs, width),
        np.array(floats(outputs), np.float32),
    ]
    return data, said


@pytest.mark.parametrize(
    ("width", "layers", "bits", "residual", "outputs"),
    [(5, 3, 9, True, 1), (4, 2, 8, True, 1), (3, 4, 3, True, 2), (7, 3, 5, False, 1), (6, 1, 9, True, 1),
     (3, 2, 1, True, 1), (5, 2, 11, False, 3)],
)  # fmt: skip
def test_a_file_made_by_hand_is_read(width: int, layers: int, bits: int, residual: bool, outputs: int) -> None:
    data, said = by_hand(width, layers, bits, residual, outputs)
    net, parameters = siren_file.parse(data)
    assert net == Siren(width, layers, 3, outputs, 30.0, residual)
    assert same(parameters, said)
    # Written again, it says the same: few values have a centre each.
    again = siren_file.pack(net, parameters, bits)
    assert len(again) == len(data)
    assert again[: 5 + 4 * layers] == data[: 5 + 4 * layers]
    assert same(siren_file.parse(again)[1], said)


def test_the_size_is_the_published_one() -> None:
    net, parameters = network(32, 8)
    assert len(siren_file.pack(net, parameters, 9)) == 47329
    assert len(siren_file.pack(net, parameters, 8)) == 31145
    assert len(siren_file.pack(*network(18, 8), 8)) == 20281


def test_codebooks_are_as_good_as_their_bits() -> None:
    net, parameters = network(32, 3)
    before: float | None = None
    for bits in (4, 6, 8):
        stored = siren_file.parse(siren_file.pack(net, parameters, bits))[1]
        for kind, (wanted, found) in enumerate(zip(parameters, stored, strict=True)):
            if 2 <= kind < len(parameters) - 2 and kind % 2 == 0:
                # No worse than as many levels evenly over the range of these uniform weights.
                step = float(np.ptp(wanted)) / 2**bits
                assert float(np.sqrt(np.mean((wanted - found) ** 2))) < step / math.sqrt(12)
            else:
                np.testing.assert_array_equal(found, wanted)
        reached = precision_of(net, parameters, stored, (20, 20, 20))
        assert before is None or reached > before + 6
        before = reached


def test_fewer_weights_than_centres_are_kept_exactly() -> None:
    """Where the reference's own writer fails: a width under 23 at 9 bits."""
    net, parameters = network(18, 2)
    assert same(siren_file.parse(siren_file.pack(net, parameters, 9))[1], parameters)


def test_another_omega_is_put_into_the_weights() -> None:
    net, parameters = network(16, 3, omega=12.0)
    read, stored = siren_file.parse(siren_file.pack(net, parameters, 9))
    assert read.omega == 30
    shape = (6, 7, 8)
    np.testing.assert_allclose(outputs_of(read, stored, shape), outputs_of(net, parameters, shape), atol=2e-6)


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match=f"expected 1 to 16, got {bits}"):
        siren_file.pack(*network(), bits)


# ------------------------------------------------------------------------------------------------------ damaged files


def test_every_cut_and_every_extension_is_refused() -> None:
    data, _ = by_hand(4, 2, 3)
    for length in range(len(data)):
        with pytest.raises(FormatError, match="damaged"):
            siren_file.parse(data[:length])
    with pytest.raises(FormatError, match=f"asks for {len(data)} bytes, it has {len(data) + 1}"):
        siren_file.parse(data + b"\0")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, b"\0", "too few|no sense"),
        (1, b"\0", "no sense"),
        (3, b"\2", "no sense"),
        (4, b"\xff\xff\xff\xff", "no sense"),
        (4, b"\xff\xff\xff\x7f" * 2, "asks for"),
        (12, b"\x20", "no sense"),
        (13, struct.pack("<f", math.nan), "not a finite number"),
    ],
)
def test_a_senseless_header_is_refused_before_anything_is_allocated(at: int, value: bytes, words: str) -> None:
    data = bytearray(by_hand(4, 2, 3)[0])
    data[at : at + len(value)] = value
    with pytest.raises(FormatError, match=words):
        siren_file.parse(bytes(data))


def test_labels_that_contradict_each_other_are_refused() -> None:
    data, _ = by_hand(3, 2, 3)
    first = 5 + 8 + 4 * (9 + 3) + 4 * 8
    bad = bytearray(data)
    bad[first + 4] ^= 1  # the last bit of the last label, which is repeated behind it
    with pytest.raises(FormatError, match="not the one that is repeated"):
        siren_file.parse(bytes(bad))
    bad = bytearray(data)
    bad[first + 3] |= 0x80  # nine labels of three bits leave three bits for the last byte
    with pytest.raises(FormatError, match="more than its 3 bits"):
        siren_file.parse(bytes(bad))


def test_random_damage_gives_our_error_or_a_network() -> None:
    rng = random.Random(3)
    files = [by_hand(4, 2, 3)[0], by_hand(5, 3, 8)[0], by_hand(4, 3, 9, residual=False)[0]]
    refused = 0
    for number in range(900):
        bad = bytearray(files[number % 3])
        for _ in range(rng.choice((1, 1, 2, 8))):
            # The header is a small part, but what asks for memory.
            bad[rng.randrange(len(bad) if number % 2 else 14)] = rng.randrange(256)
        try:
            net, parameters = siren_file.parse(bytes(bad))
        except FormatError:
            refused += 1
            continue
        assert sum(p.size for p in parameters) == net.parameters
        assert all(np.isfinite(p).all() for p in parameters)
    assert 300 < refused < 900


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.bin"
    path.write_text("This is not a network. " * 20)
    with pytest.raises(FormatError, match=r"text\.bin: .*damaged, or not a compressed network"):
        siren_file.read(path)
    with pytest.raises(InputError, match="cannot read"):
        siren_file.read(tmp_path / "nothing.bin")


# -------------------------------------------------------------------------------------------------------- checkpoints


def modules(torch: Any, net: Siren) -> Any:
    """A network with the reference's names of modules, written for these tests."""

    class Sine(torch.nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(inputs, net.width)

        def forward(self, x: Any) -> Any:
            return torch.sin(30 * self.linear(x))

    class Block(torch.nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.linear_1 = torch.nn.Linear(net.width, net.width)
            self.linear_2 = torch.nn.Linear(net.width, net.width)
            self.halves = (1.0 if number == 1 else 0.5), (0.5 if number == net.layers - 1 else 1.0)

        def forward(self, x: Any) -> Any:
            s = torch.sin(30 * self.linear_1(self.halves[0] * x))
            return self.halves[1] * (x + torch.sin(30 * self.linear_2(s)))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = [Block(k) if net.residual else Sine(net.width) for k in range(1, net.layers)]
            self.net_layers = torch.nn.ModuleList([Sine(3), *inner, torch.nn.Linear(net.width, net.outputs)])

        def forward(self, x: Any) -> Any:
            for layer in self.net_layers:
                x = layer(x)
            return x

    return Network()


@pytest.fixture
def torch() -> Any:
    found = pytest.importorskip("torch", reason="needs torch, from the extra train")
    found.set_num_threads(1)
    return found


@pytest.mark.parametrize(("residual", "layers", "outputs"), [(True, 4, 1), (False, 3, 2), (True, 1, 1)])
def test_checkpoints_go_both_ways(torch: Any, tmp_path: Path, residual: bool, layers: int, outputs: int) -> None:
    net, parameters = network(16, layers, outputs=outputs, residual=residual)
    theirs = modules(torch, net)
    path = tmp_path / "ours.pth"
    path.write_bytes(siren_file.pack_checkpoint(net, parameters))
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    points = lattice_points(axis_coordinates((4, 5, 6)))
    with torch.no_grad():
        seen = theirs(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(seen, forward(net, parameters, points), atol=1e-4)

    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    read, stored = siren_file.read(path)
    assert read == (net if layers > 1 else replace(net, residual=True))
    assert same(stored, parameters)


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_a_checkpoint_cannot_run_code(torch: Any, tmp_path: Path) -> None:
    path, made = tmp_path / "evil.pth", tmp_path / "made"
    torch.save({"net_layers.0.linear.weight": Evil(str(made))}, path)
    with pytest.raises(FormatError, match=r"evil\.pth: it is no checkpoint of weights alone"):
        siren_file.read(path)
    assert not made.exists()


def test_other_checkpoints_are_refused(torch: Any, tmp_path: Path) -> None:
    net, parameters = network(16, 3)
    state = modules(torch, net).state_dict()

    def refused(value: Any) -> str:
        torch.save(value, tmp_path / "a.pth")
        with pytest.raises(FormatError) as caught:
            siren_file.read(tmp_path / "a.pth")
        return str(caught.value)

    assert "no state_dict of tensors" in refused([1, 2])
    assert "expected net_layers.0.linear.weight" in refused({"fc.weight": torch.zeros(3, 3)})
    assert "net_layers.2.linear_1.bias is missing" in refused(
        {k: v for k, v in state.items() if k != "net_layers.2.linear_1.bias"}
    )
    assert "is (16, 3), expected (16, 16)" in refused(state | {"net_layers.1.linear_2.weight": torch.zeros(16, 3)})
    assert "net_layers.1.extra.weight is (2,), expected none" in refused(
        state | {"net_layers.1.extra.weight": torch.zeros(2)}
    )
    assert "not a finite number" in refused(state | {"net_layers.0.linear.bias": torch.full((16,), math.inf)})
    # A stride of 0 makes much of little.
    huge = torch.zeros(1).expand(1 << 20, 1 << 12)
    assert "more values than it stores" in refused(state | {"net_layers.0.linear.weight": huge})
    whole = siren_file.pack_checkpoint(net, parameters)
    for length in (4, 100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"cut\.pth"):
            siren_file.read(tmp_path / "cut.pth")


# ----------------------------------------------------------------------------------------------------- .nvc files


def volume_of(net: Siren, parameters: Parameters, shape: Sequence[int], psnr: float, dtype: Any = np.float32) -> Field:
    """What a network of so many dB may have been trained on: its own outputs and noise, 10 to 250."""
    out = outputs_of(net, parameters, shape)
    values = out + 10 ** (-psnr / 20) * 2 * np.random.default_rng(5).standard_normal(out.shape)
    low, high = values.min(), values.max()
    return Field(((values - low) / (high - low) * 240 + 10).astype(dtype), UniformGrid(_extent(shape)), "density")


def _extent(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(v for n in shape[2::-1] for v in (0, n - 1))


def reference_values(net: Siren, parameters: Parameters, field: Field, limits: tuple[float, float]) -> np.ndarray:
    """As the reference undoes its normalisation."""
    low, high = limits
    return (outputs_of(net, parameters, field.values.shape[:3]) / 2 + 0.5) * (high - low) + low


@pytest.mark.parametrize(("psnr", "outputs"), [(25.0, 1), (45.0, 1), (40.0, 2)])
def test_an_import_keeps_the_psnr_in_fewer_bytes(psnr: float, outputs: int) -> None:
    net, parameters = network(24, 4, outputs=outputs)
    parameters = siren_file.parse(siren_file.pack(net, parameters, 9))[1]
    field = volume_of(net, parameters, (11, 12, 13), psnr)
    wanted = measure(field.values, reference_values(net, parameters, field, field.limits).astype(np.float32))
    made = import_network(net, parameters, field, field.limits)
    (decoded,) = decompress(made.data)
    assert decoded.geometry == field.geometry
    assert decoded.name == "density"
    found = measure(field.values, decoded.values)
    assert made.quality == found
    assert abs(found.psnr - wanted.psnr) < 0.01
    assert len(made.data) < 0.6 * len(siren_file.pack(net, parameters, 9))
    header = Container(made.data).header.arrays[0]
    assert header.psnr == pytest.approx(found.psnr, abs=1e-4)


def test_an_import_without_the_volume_keeps_eighty_decibels() -> None:
    net, parameters = network(16, 3)
    outline = Field(np.broadcast_to(np.float32(0), (9, 12, 15)), name="a")
    made = import_network(net, parameters, outline, (-2.0, 6.0), compare=False)
    assert made.quality is None
    assert 80 <= made.precision < 83
    exact = reference_values(net, parameters, outline, (-2.0, 6.0))
    error = float(np.sqrt(np.mean((decompress(made.data)[0].values - exact) ** 2)))
    assert 20 * math.log10(8 / error) > 79
    assert Container(made.data).header.arrays[0].psnr is None


def test_exact_parameters_come_back_to_the_bit() -> None:
    net, parameters = network(16, 3)
    outline = Field(np.broadcast_to(np.float32(0), (9, 12, 15)), name="a")
    made = import_network(net, parameters, outline, (0.5, 3.0), compare=False, exact=True)
    read, stored, limits = export_network(Container(made.data), 0)
    assert read == net
    assert same(stored, parameters)
    assert limits == (0.5, 3.0)


def test_flat_axes_and_integers() -> None:
    net, parameters = network(16, 3)
    field = volume_of(net, parameters, (1, 20, 30), 40.0, np.uint8)
    made = import_network(net, parameters, field, field.limits)
    exact = np.rint(reference_values(net, parameters, field, field.limits)).clip(0, 255).astype(np.uint8)
    (decoded,) = decompress(made.data)
    assert decoded.values.dtype == np.uint8
    assert abs(measure(field.values, decoded.values).psnr - measure(field.values, exact).psnr) < 0.01
    read, stored, _ = export_network(Container(made.data), 0)
    assert read.inputs == 3
    assert (stored[0][:, 0] == 0).all()
    assert precision_of(read, parameters, stored, (1, 20, 30)) > 55


def test_a_network_that_does_not_fit_is_refused() -> None:
    net, parameters = network(16, 2, outputs=2)
    field = Field(np.zeros((3, 4, 5), np.float32))
    with pytest.raises(InputError, match="3 inputs and 2 outputs; a volume with 1 components needs 3 and 1"):
        import_network(net, parameters, field, (0.0, 1.0), compare=False)
    net, parameters = network(16, 2)
    with pytest.raises(InputError, match="the smaller first, got 1 and 1"):
        import_network(net, parameters, field, (1.0, 1.0), compare=False)


# ------------------------------------------------------------------------------------------------------ command line


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def good(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object, code: int = 2) -> str:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("neurcomp: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Field]:
    folder = tmp_path_factory.mktemp("reference")
    net, parameters = network(16, 3)
    (folder / "net.bin").write_bytes(siren_file.pack(net, parameters, 8))
    field = volume_of(net, siren_file.parse((folder / "net.bin").read_bytes())[1], (13, 14, 15), 35.0)
    io.write([replace(field, geometry=UniformGrid(_extent((13, 14, 15)), (1.0, 2.0, 3.0), (0.5, 0.5, 2.0)))],
             folder / "volume.vti")  # fmt: skip
    return folder, io.read(folder / "volume.vti")[0]


def test_import_like_a_volume(case: tuple[Path, Field], tmp_path: Path) -> None:
    folder, field = case
    out = tmp_path / "a.nvc"
    text = good("import", folder / "net.bin", "--like", folder / "volume.vti", "-o", out, "--threads", 1).stdout
    assert "3 residual sine layers of 16" in text
    assert "PSNR of density" in text
    (decoded,) = decompress(out)
    assert decoded.geometry == field.geometry
    wanted = measure(field.values, reference_values(*siren_file.read(folder / "net.bin"), field, field.limits))
    assert abs(measure(field.values, decoded.values).psnr - wanted.psnr) < 0.01
    # The same by its dimensions, decoded at once.
    low, high = field.limits
    good("import", folder / "net.bin", "--dims", "15,14,13", "--range", f"{low!r},{high!r}", "-o", tmp_path / "b.npy")
    values = np.load(tmp_path / "b.npy")
    assert values.dtype == np.float32
    exact = reference_values(*siren_file.read(folder / "net.bin"), field, field.limits)
    np.testing.assert_allclose(values, exact, atol=1e-4 * (high - low))
    found = json.loads(
        good("import", folder / "net.bin", "--like", folder / "volume.vti", "-o", tmp_path / "c.nvc", "--json").stdout
    )
    assert found["file_bytes"] == (tmp_path / "c.nvc").stat().st_size
    assert found["psnr"] == pytest.approx(measure(field.values, decoded.values).psnr, abs=0.01)
    assert found["array"]["dims"] == [15, 14, 13]


def test_export_and_import_again(case: tuple[Path, Field], tmp_path: Path) -> None:
    folder, field = case
    like = ("--like", folder / "volume.vti", "--threads", 1)
    good("import", folder / "net.bin", *like, "-o", tmp_path / "a.nvc", "--quiet")
    text = good("export", tmp_path / "a.nvc", "-o", tmp_path / "again.bin").stdout
    low, high = (float(v) for v in text.split("range ")[1].split(" to "))
    assert (low, high) == pytest.approx(field.limits, rel=1e-6)
    assert "15 × 14 × 13" in text
    net, parameters = siren_file.read(tmp_path / "again.bin")
    _, original = siren_file.read(folder / "net.bin")
    assert precision_of(net, original, parameters, (13, 14, 15)) > 55
    found = json.loads(good("export", tmp_path / "a.nvc", "-o", tmp_path / "b.bin", "--bits", 4, "--json").stdout)
    assert found["file_bytes"] == (tmp_path / "b.bin").stat().st_size < (tmp_path / "again.bin").stat().st_size
    assert 10 < found["precision_db"] < 55
    assert found["dims"] == [15, 14, 13]


def test_checkpoints_on_the_command_line(torch: Any, case: tuple[Path, Field], tmp_path: Path) -> None:
    folder, _ = case
    like = ("--like", folder / "volume.vti", "--threads", 1, "--quiet")
    good("import", folder / "net.bin", *like, "-o", tmp_path / "a.nvc")
    good("export", tmp_path / "a.nvc", "-o", tmp_path / "net.pth")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert "net_layers.2.linear_2.bias" in state
    good("import", tmp_path / "net.pth", *like, "-o", tmp_path / "b.nvc")
    a, b = (decompress(tmp_path / name)[0].values for name in ("a.nvc", "b.nvc"))
    assert measure(a, b).psnr > 45


def test_import_errors_are_one_sentence_and_leave_nothing(case: tuple[Path, Field], tmp_path: Path) -> None:
    folder, _ = case
    net, out = folder / "net.bin", tmp_path / "a.nvc"

    def sentence(*arguments: object, code: int = 2) -> str:
        found = refused("import", *arguments, "-o", out, code=code)
        assert list(tmp_path.iterdir()) == kept
        return found

    kept: list[Path] = []
    assert "give --dims X,Y,Z and --range MIN,MAX, or --like VOLUME" in sentence(net)
    assert "give --range MIN,MAX, or --like" in sentence(net, "--dims", "15,14,13")
    assert "give --dims X,Y,Z, or --like" in sentence(net, "--range", "0,1")
    assert "--dims: expected 3 positive whole numbers" in sentence(net, "--dims", "15,14", "--range", "0,1")
    assert "--dims: expected 3" in sentence(net, "--dims", "15,14,0", "--range", "0,1")
    for text in ("1", "1,0", "0,0", "a,b", "nan,1"):
        assert "--range: expected" in sentence(net, "--dims", "15,14,13", "--range", text)
    assert "--dtype: expected one of" in sentence(net, "--dims", "9,9,9", "--range", "0,1", "--dtype", "complex64")
    assert "no such file" in sentence(net, "--like", tmp_path / "none.vti").lower()
    assert "cannot read" in sentence(tmp_path / "none.bin", "--dims", "9,9,9", "--range", "0,1")
    cut = folder / "cut.bin"
    cut.write_bytes(net.read_bytes()[:-10])
    assert "cut.bin" in sentence(cut, "--dims", "15,14,13", "--range", "0,1", code=4)
    assert "asks for" in sentence(cut, "--dims", "15,14,13", "--range", "0,1", code=4)
    two = folder / "two.vti"
    io.write([Field(np.arange(60.0).reshape(3, 4, 5), name=n) for n in ("p", "q")], two)
    assert "2 arrays ('p', 'q'); say with --array" in sentence(net, "--like", two)
    vectors = folder / "vectors.vti"
    io.write([Field(np.arange(180.0).reshape(3, 4, 5, 3), name="v")], vectors)
    assert "3 inputs and 1 outputs; a volume with 3 components" in sentence(net, "--like", vectors)
    out.write_bytes(b"mine")
    kept = [out]
    assert "--force" in sentence(net, "--like", folder / "volume.vti")
    assert out.read_bytes() == b"mine"


def test_export_errors_are_one_sentence_and_leave_nothing(case: tuple[Path, Field], tmp_path: Path) -> None:
    folder, _ = case
    io.write([Field(np.full((3, 4, 5), 2.0), name="c")], folder / "c.vti")
    good("compress", folder / "c.vti", "--psnr", 30, "-o", tmp_path / "w.nvc", "--quiet")
    good("import", folder / "net.bin", "--like", folder / "volume.vti", "-o", tmp_path / "s.nvc", "--quiet")
    kept = sorted(tmp_path.iterdir())

    def sentence(*arguments: object, code: int = 2) -> str:
        found = refused("export", *arguments, code=code)
        assert sorted(tmp_path.iterdir()) == kept
        return found

    out = tmp_path / "net.bin"
    assert "not compressed with the codec siren" in sentence(tmp_path / "w.nvc", "-o", out)
    assert "bits: expected 1 to 16, got 20" in sentence(tmp_path / "s.nvc", "-o", out, "--bits", 20)
    assert "has no array 'x'; it has: 'density'" in sentence(tmp_path / "s.nvc", "-o", out, "--array", "x")
    assert ".nvc is wrong" in sentence(tmp_path / "s.nvc", "-o", tmp_path / "b.nvc")
    damaged = bytearray((tmp_path / "s.nvc").read_bytes())
    damaged[-40] ^= 1
    (folder / "d.nvc").write_bytes(damaged)
    assert "is damaged" in sentence(folder / "d.nvc", "-o", out, code=4)
