"""The plugin in ParaView's programs: pvpython, pvbatch, pvserver and the window itself."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paraview_env as pv
import pytest

from neurcomp_core.pipeline import decompress

pytestmark = pytest.mark.paraview

QUICK = {"Codec": "hashgrid", "CodecParameters": "steps=100 batch=4096"}
# A wave with a gradient: neither constant nor symmetric.
SETUP = f"""
from paraview.simple import *
from neurcomp_filters.scripting import checked
QUICK = {QUICK!r}
wavelet = Wavelet(WholeExtent=[-8, 8, -7, 7, -6, 6])
"""


def pvpython(folder: Path, text: str) -> str:
    """Output of a program that ran well."""
    done = pv.run([pv.program("pvpython"), str(pv.script(folder, text))], folder, pv.environment(folder))
    assert done.returncode == 0, done.stdout
    return done.stdout


def results(output: str) -> dict:
    """What a program printed as its last line."""
    return json.loads(output.strip().splitlines()[-1])


def test_filter_reader_writer_and_compare(tmp_path: Path) -> None:
    found = results(
        pvpython(
            tmp_path,
            SETUP
            + """
import json
with checked():
    compressed = NeuralCompress(Input=wavelet, Target="Compression Ratio", Ratio=30, **QUICK,
                                ErrorArrays=1, FileName="beside.nvc")
    compressed.UpdatePipeline()
    arrays = sorted(compressed.PointData.keys())
    compressed.ErrorArrays = 0
    SaveData("saved.nvc", proxy=compressed)
    opened = OpenDataFile("saved.nvc")
    opened.UpdatePipeline()
    compare = VolumeCompare(Original=wavelet, Reconstruction=opened)
    compare.UpdatePipeline()
    table = servermanager.Fetch(compare, idx=1)
    SaveData("decoded.vti", proxy=opened, PointDataArrays=["RTData"])
    half = OpenDataFile("saved.nvc")
    half.LevelOfDetail = 1
    half.UpdatePipeline()
print(json.dumps({
    "arrays": arrays,
    "psnr": compressed.FieldData["neurcomp_psnr"].GetRange()[0],
    "ratio": compressed.FieldData["neurcomp_ratio"].GetRange()[0],
    "names": sorted(compressed.FieldData.keys()),
    "errors": sorted(compare.PointData.keys()),
    "table": {table.GetColumnName(i): table.GetValue(0, i).ToString() for i in range(table.GetNumberOfColumns())},
    "half": half.GetDataInformation().GetExtent(),
    "properties": sorted(compressed.ListProperties()),
    "label": opened.GetProperty("PointArrays").GetData(),
}))
""",
        )
    )
    assert found["arrays"] == ["RTData", "RTData_error"]
    assert 30 <= found["ratio"] < 31
    assert float(found["table"]["PSNR (dB)"]) == pytest.approx(found["psnr"], abs=1e-3)
    assert found["errors"] == ["RTData_absolute_error", "RTData_difference", "RTData_relative_error"]
    assert found["half"] == [0, 8, 0, 7, 0, 6]
    wanted = ["bits_per_voxel", "bytes", "codec", "max_error", "psnr", "ratio", "seconds"]
    assert {f"neurcomp_{name}" for name in wanted} <= set(found["names"])
    assert {"Target", "Ratio", "PSNR", "MaximumError", "Codec", "Preset", "Device", "Seed", "TimeLimit"} <= set(
        found["properties"]
    )
    # One run: what the filter wrote as it went, what Save Data wrote, and what the library decodes are the same.
    saved = (tmp_path / "saved.nvc").read_bytes()
    assert saved == (tmp_path / "beside.nvc").read_bytes()
    from neurcomp_filters import io

    (opened,) = io.read(tmp_path / "decoded.vti", ["RTData"])
    np.testing.assert_array_equal(decompress(saved)[0].values, opened.values)


def test_files_are_the_same_from_either_side(tmp_path: Path) -> None:
    """What ParaView writes decompresses on the command line to the values ParaView shows, and the other way round."""
    from neurcomp_core.samples import marschner_lobb
    from neurcomp_filters import io

    def neurcomp(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "neurcomp_cli", *arguments], cwd=tmp_path, check=True)

    io.write([marschner_lobb(20)], tmp_path / "volume.vti")
    neurcomp(
        "compress",
        "volume.vti",
        "--ratio",
        "12",
        "--codec",
        "hashgrid",
        "--set",
        "steps=60",
        "--set",
        "batch=4096",
        "-o",
        "command.nvc",
    )
    pvpython(
        tmp_path,
        SETUP
        + """
with checked():
    SaveData("command_in_paraview.vti", proxy=OpenDataFile("command.nvc"))
    compressed = NeuralCompress(Input=OpenDataFile("volume.vti"), Target="Compression Ratio", Ratio=12,
                                **QUICK)
    SaveData("paraview.nvc", proxy=compressed)
    SaveData("paraview_in_paraview.vti", proxy=OpenDataFile("paraview.nvc"))
""",
    )
    for name in ("command", "paraview"):
        neurcomp("decompress", f"{name}.nvc", "-o", f"{name}.vti")
        (here,), (there,) = io.read(tmp_path / f"{name}.vti"), io.read(tmp_path / f"{name}_in_paraview.vti")
        assert here.values.tobytes() == there.values.tobytes()
        assert (here.name, here.geometry) == (there.name, there.geometry)


def test_arrays_blocks_and_other_grids(tmp_path: Path) -> None:
    found = results(
        pvpython(
            tmp_path,
            SETUP
            + """
import json
out = {}
with checked():
    vectors = Calculator(Input=wavelet, ResultArrayName="v", Function="RTData*iHat+coordsX*jHat")
    both = PointDatatoCellData(Input=vectors, ProcessAllArrays=1, PassPointData=1)
    both.UpdatePipeline()
    chosen = NeuralCompress(Input=both, **QUICK, PointArrays=["v"], CellArrays=["RTData"], Ratio=20)
    chosen.UpdatePipeline()
    out["chosen"] = [chosen.PointData.keys(), chosen.CellData.keys()]
    SaveData("chosen.nvc", proxy=both, Ratio=20, **QUICK, PointArrays=["RTData"], CellArrays=[])
    opened = OpenDataFile("chosen.nvc")
    opened.UpdatePipeline()
    out["saved"] = [opened.PointData.keys(), opened.CellData.keys()]
    group = GroupDatasets(Input=[wavelet, Wavelet(WholeExtent=[0, 9, 0, 9, 0, 9])])
    blocks = NeuralCompress(Input=group, **QUICK, FileName="block.nvc", Ratio=20)
    blocks.UpdatePipeline()
    out["blocks"] = blocks.GetDataInformation().DataInformation.GetNumberOfPoints()
    difference = VolumeCompare(Original=group, Reconstruction=blocks)
    difference.UpdatePipeline()
    out["errors"] = len(difference.PointData.keys())
    voi = ExtractSubset(Input=NeuralCompress(Input=wavelet, **QUICK), VOI=[0, 0, -7, 7, -6, 6])
    voi.UpdatePipeline()
    out["slice"] = voi.GetDataInformation().GetExtent()
    tetrahedra = Tetrahedralize(Input=wavelet)
    sampled = NeuralCompress(Input=tetrahedra, ResampleToImage=1, SamplingDimensions=[9, 9, 9], Ratio=8,
                             **QUICK)
    sampled.UpdatePipeline()
    out["sampled"] = sampled.GetDataInformation().GetExtent()
print(json.dumps(out))
""",
        )
    )
    assert found["chosen"] == [["v"], ["RTData"]]
    assert found["saved"] == [["RTData"], []]
    assert found["blocks"] == 17 * 15 * 13 + 1000
    assert sorted(path.name for path in tmp_path.glob("block*.nvc")) == ["block_1.nvc", "block_2.nvc"]
    assert found["errors"] == 3
    assert found["slice"] == [0, 0, -7, 7, -6, 6]
    assert found["sampled"] == [0, 8, 0, 8, 0, 8]


def test_time_series(tmp_path: Path) -> None:
    found = results(
        pvpython(
            tmp_path,
            SETUP
            + """
import json
waves = ProgrammableSource(OutputDataSetType="vtkImageData", ScriptRequestInformation='''
executive = self.GetExecutive()
info = executive.GetOutputInformation().GetInformationObject(0)
info.Set(executive.WHOLE_EXTENT(), 0, 11, 0, 10, 0, 9)
info.Set(executive.TIME_STEPS(), [0.5, 1.0, 2.5], 3)
info.Set(executive.TIME_RANGE(), [0.5, 2.5], 2)
''', Script='''
import numpy as np
executive = self.GetExecutive()
info = executive.GetOutputInformation().GetInformationObject(0)
time = info.Get(executive.UPDATE_TIME_STEP()) if info.Has(executive.UPDATE_TIME_STEP()) else 0.5
output.SetExtent(0, 11, 0, 10, 0, 9)
z, y, x = np.mgrid[:10, :11, :12]
output.PointData.append((np.sin(x / 3 + time) + y * z / 50 + time).astype("f4").ravel(), "wave")
output.GetInformation().Set(output.DATA_TIME_STEP(), time)
''')
with checked():
    waves.UpdatePipelineInformation()
    SaveData("series.nvc", proxy=waves, WriteAllTimeSteps=1, Ratio=8, **QUICK)
    opened = OpenDataFile("series.nvc")
    times = list(opened.TimestepValues)
    ranges = []
    for time in times:
        opened.UpdatePipeline(time)
        ranges.append(opened.PointData["wave"].GetRange())
    each = NeuralCompress(Input=waves, **QUICK, Ratio=8, FileName="step.nvc")
    for time in times:
        each.UpdatePipeline(time)
    files = OpenDataFile(["step_0000.nvc", "step_0001.nvc", "step_0002.nvc"])
    files.UpdatePipelineInformation()
print(json.dumps({"times": times, "ranges": ranges, "files": list(files.TimestepValues)}))
""",
        )
    )
    assert found["times"] == [0.5, 1.0, 2.5]
    assert found["files"] == [0.5, 1.0, 2.5]
    lows = [low for low, _ in found["ranges"]]
    assert lows == sorted(lows)
    assert [field.time for field in decompress((tmp_path / "series.nvc").read_bytes())] == [0.5, 1.0, 2.5]


def test_state_and_trace_replay(tmp_path: Path) -> None:
    pvpython(
        tmp_path,
        SETUP
        + """
from paraview import smstate, smtrace
config = smtrace.start_trace()
compressed = NeuralCompress(registrationName="Compressed", Input=wavelet)
applied = smtrace.PropertiesModified(compressed)  # what the Apply button does
compressed.Target = "PSNR"
compressed.PSNR = 22
compressed.Codec = QUICK["Codec"]
compressed.CodecParameters = QUICK["CodecParameters"]
applied.finalize()
compressed.UpdatePipeline()
trace = smtrace.stop_trace()
end = '''
found = FindSource("Compressed")
found.UpdatePipeline()
print(found.PointData["RTData"].GetRange())
'''
open("state.py", "w").write(smstate.get_state() + end)
source = "wavelet1 = Wavelet(registrationName='Wavelet1', WholeExtent=[-8, 8, -7, 7, -6, 6])"
open("trace.py", "w").write("from paraview.simple import *\\n" + source + "\\n" + trace + end)
open("range.txt", "w").write(str(compressed.PointData["RTData"].GetRange()))
""",
    )
    expected = (tmp_path / "range.txt").read_text()
    for name in ("state.py", "trace.py"):
        command = [pv.program("pvpython"), name]
        done = pv.run(command, tmp_path, pv.environment(tmp_path), display=True)
        assert done.returncode == 0, done.stdout
        assert done.stdout.strip().splitlines()[-1] == expected, done.stdout
        assert "compressed.PSNR = 22.0" in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("work", "says"),
    [
        ("NeuralCompress(Input=wavelet, Ratio=1e6).UpdatePipeline()", "ask for a ratio of at most"),
        ("NeuralCompress(Input=Tetrahedralize(Input=wavelet)).UpdatePipeline()", "Resample To Image"),
        ("OpenDataFile('damaged.nvc').UpdatePipeline()", "not a NeurComp file"),
        ("SaveData('no/such/folder/a.nvc', proxy=wavelet, **QUICK)", "folder"),
    ],
)
def test_failure_is_one_line_and_an_exit_code(work: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.nvc").write_bytes(b"nothing of ours")
    code = SETUP + f"\nwith checked():\n    {work}\n    Render() if GetActiveView() else None\n"
    done = pv.run([pv.program("pvbatch"), str(pv.script(tmp_path, code))], tmp_path, pv.environment(tmp_path))
    assert done.returncode != 0
    reports = [block for block in done.stdout.split("\n\n") if block.lstrip().startswith("ERROR: In")]
    assert len(reports) == 1, done.stdout
    assert says in reports[0]
    assert "Traceback" not in reports[0]


def test_missing_torch_is_one_sentence(tmp_path: Path) -> None:
    code = SETUP + "\nwith checked():\n    NeuralCompress(Input=wavelet, **QUICK).UpdatePipeline()\n"
    env = pv.environment(tmp_path, without="torch")
    done = pv.run([pv.program("pvbatch"), str(pv.script(tmp_path, code))], tmp_path, env)
    assert done.returncode != 0
    assert "needs the Python package 'torch'" in done.stdout
    assert "pip install 'neurcomp[train]'" in done.stdout


def test_failure_is_not_tried_again_until_something_changes(tmp_path: Path) -> None:
    output = pvpython(
        tmp_path,
        SETUP
        + """
compressed = NeuralCompress(Input=wavelet, Ratio=1e6, **QUICK)
for _ in range(3):
    compressed.UpdatePipeline()
    compressed.SMProxy.UpdatePipeline(0.0)
print("changed", flush=True)
compressed.Ratio = 20
compressed.UpdatePipeline()
print(compressed.PointData.keys())
""",
    )
    assert output.count("ERROR: In NeuralCompress") == 1
    assert output.strip().endswith("['RTData']")


def test_client_needs_neither_plugin_nor_torch(tmp_path: Path) -> None:
    port = 20000 + int(time.time() * 1000) % 20000
    command = [pv.program("pvserver"), f"--server-port={port}"]
    env = pv.environment(tmp_path, autoload=False)
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "Accepting connection" in line:
                    break
            code = f"""
            from paraview.simple import *
            Connect("localhost", {port})
            LoadPlugin({str(pv.PLUGIN)!r}, remote=True, ns=globals())
            wavelet = Wavelet(WholeExtent=[-8, 8, -7, 7, -6, 6])
            compressed = NeuralCompress(Input=wavelet, **{QUICK!r}, Ratio=20)
            compressed.UpdatePipeline()
            SaveData("remote.nvc", proxy=compressed)
            opened = OpenDataFile("remote.nvc")
            opened.UpdatePipeline()
            print(opened.PointData["RTData"].GetRange() == compressed.PointData["RTData"].GetRange())
            """
            command = [pv.program("pvpython"), str(pv.script(tmp_path, code))]
            done = pv.run(command, tmp_path, pv.plain_environment(tmp_path))
            assert done.stdout.strip().endswith("True"), done.stdout
        finally:
            server.kill()


def in_parallel(folder: Path, text: str) -> subprocess.CompletedProcess:
    """A program on two processes."""
    if shutil.which("mpiexec") is None:
        pytest.skip("needs mpiexec")
    command = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2", pv.program("pvbatch"), "--sym"]
    return pv.run([*command, str(pv.script(folder, text))], folder, pv.environment(folder))


def test_parallel_run_meets_the_target(tmp_path: Path) -> None:
    done = in_parallel(
        tmp_path,
        SETUP
        + """
with checked():
    same = dict(Target="PSNR", PSNR=40, Codec="hashgrid", CodecParameters="steps=200 batch=4096")
    compressed = NeuralCompress(Input=wavelet, FileName="part.nvc", **same)
    compressed.UpdatePipeline()
    SaveData("parallel.pvti", proxy=compressed, PointDataArrays=["RTData"])
    SaveData("blocks.nvc", proxy=compressed)
    SaveData("whole.nvc", proxy=wavelet, **same)
""",
    )
    assert done.returncode == 0, done.stdout
    found = results(
        pvpython(
            tmp_path,
            SETUP
            + """
import json
with checked():
    one = NeuralCompress(Input=wavelet, Target="PSNR", PSNR=40, Codec="hashgrid",
                         CodecParameters="steps=200 batch=4096")
    psnr = {}
    opened = OpenDataFile("whole.nvc")
    for name, data in (("serial", one), ("parallel", OpenDataFile("parallel.pvti")), ("written", opened)):
        compare = VolumeCompare(Original=wavelet, Reconstruction=data)
        compare.UpdatePipeline()
        psnr[name] = servermanager.Fetch(compare, idx=1).GetValueByName(0, "PSNR (dB)").ToDouble()
print(json.dumps(psnr))
""",
        )
    )
    assert len(found) == 3
    assert min(found.values()) >= 40
    # What the filter made of each piece is kept to the byte, in files of their own or as blocks of one.
    assert sorted(path.name for path in tmp_path.glob("*.nvc")) == [
        "blocks.nvc",
        "part_p0.nvc",
        "part_p1.nvc",
        "whole.nvc",
    ]
    blocks = decompress((tmp_path / "blocks.nvc").read_bytes())
    for number, block in enumerate(blocks):
        (part,) = decompress((tmp_path / f"part_p{number}.nvc").read_bytes())
        assert part.geometry == block.geometry
        np.testing.assert_array_equal(part.values, block.values)


def test_parallel_failure_ends_all_processes(tmp_path: Path) -> None:
    done = in_parallel(tmp_path, SETUP + "with checked():\n    SaveData('no/folder/a.nvc', proxy=wavelet, Ratio=9)\n")
    assert done.returncode != 0
    assert "the folder" in done.stdout


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_installed_tree_needs_the_plugin_path_alone(tmp_path: Path) -> None:
    build, tree = tmp_path / "build", tmp_path / "tree"
    source = ["-S", str(pv.PLUGIN.parent.parent), "-B", str(build), f"-DPYTHON_EXECUTABLE={sys.executable}"]
    for command in ([*source], ["--install", str(build), "--prefix", str(tree)]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    env = pv.plain_environment(tmp_path) | {"PV_PLUGIN_PATH": str(tree / "lib" / "neurcomp" / "plugins")}
    # What ParaView 5.11 with Python 3.11 lacks for any Python plugin.
    shim = "import inspect\ninspect.getargspec = inspect.getfullargspec\n"
    (tmp_path / "shim").mkdir()
    pv.script(tmp_path / "shim", shim, "sitecustomize.py")
    env["PYTHONPATH"] = str(tmp_path / "shim")
    code = SETUP + (
        "with checked():\n    compressed = NeuralCompress(Input=wavelet, Ratio=20, **QUICK)\n"
        "    compressed.UpdatePipeline()\nimport neurcomp_filters\nprint(neurcomp_filters.__file__)\n"
    )
    code = "from paraview.simple import *\n" + code  # loads the plugin before the packages are asked for
    done = pv.run([pv.program("pvpython"), str(pv.script(tmp_path, code))], tmp_path, env)
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip().endswith(str(tree / "lib" / "neurcomp" / "python" / "neurcomp_filters" / "__init__.py"))


EVENTS = """<?xml version="1.0"?>
<pqevents>
  <pqevent object="pqClientMainWindow/menubar/menuFilters" command="activate" arguments="Neural Compression"/>
  <pqevent object="pqClientMainWindow/menubar/menuFilters/Neural Compression" command="activate"
      arguments="NeuralCompress"/>
  <pqevent object="pqClientMainWindow/propertiesDock/propertiesPanel/Accept" command="activate" arguments=""/>
  <pqevent object="pqClientMainWindow/representationToolbar/displayRepresentation/comboBox" command="set_string"
      arguments="Surface"/>
  <pqevent object="pqClientMainWindow/variableToolbar/displayColor/Variables" command="set_string"
      arguments="RTData"/>
</pqevents>
"""


def test_in_the_window(tmp_path: Path) -> None:
    env = pv.environment(tmp_path)
    settings = tmp_path / "home" / ".config" / "ParaView"
    settings.mkdir(parents=True)
    written = tmp_path / "window.nvc"
    defaults = {"filters": {"NeuralCompress": {**QUICK, "FileName": str(written)}}}
    (settings / "ParaView-UserSettings.json").write_text(json.dumps(defaults))
    version = pv.run([pv.program("pvpython"), "--version"], tmp_path, env).stdout.split()[-1]
    (settings / f"ParaView{version}.ini").write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    start = pv.script(tmp_path, SETUP + "Show(wavelet)\nRender()\n")
    (tmp_path / "events.xml").write_text(EVENTS)
    command = [*pv.virtual_display(f"-fbdir {tmp_path}"), pv.program("paraview")]
    command += [f"--script={start}", "--test-script=events.xml"]
    log = tmp_path / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=out, stderr=out, start_new_session=True) as window,
    ):
        try:
            end = time.monotonic() + 100
            # The line after the events ran; an event that finds no such menu entry says so.
            while time.monotonic() < end and "is finished" not in log.read_text() and window.poll() is None:
                time.sleep(0.5)
            time.sleep(1.5)
            shutil.copy(tmp_path / "Xvfb_screen0", tmp_path / "screen.xwd")
            picture = screenshot(tmp_path / "screen.xwd")
        finally:
            terminate(window)
    assert "Success =  true" in log.read_text(), log.read_text()
    assert decompress(written)[0].values.shape == (13, 15, 17)
    # A colour map over the volume: shades that nothing else in the window has.
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    coloured = picture[(abs(red - blue) > 35) & (green > 60)]
    assert len(coloured) > 10_000
    assert len(np.unique(coloured, axis=0)) > 200


def terminate(process: subprocess.Popen) -> None:
    """End xvfb-run and what it started: ParaView and the server."""
    import os
    import signal

    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


def screenshot(framebuffer: Path) -> np.ndarray:
    """Pixels (y, x, RGB) of an X window dump."""
    data = framebuffer.read_bytes()
    head = struct.unpack(">25I", data[:100])
    size, width, height, line, colours = head[0], head[4], head[5], head[12], head[19]
    pixels = np.frombuffer(data, np.uint8, line * height, size + 12 * colours).reshape(height, line)
    return pixels[:, : 4 * width].reshape(height, width, 4)[..., 2::-1]
