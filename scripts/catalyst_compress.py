"""Compress in situ: a Catalyst script that writes each time step of a running simulation as a .nvc file.

Give it to a simulation as its Catalyst (version 2) script, with the settings below changed here or through the
environment. Started as a program it runs ParaView's wavelet mini-app as the simulation:

    neurcomp pvbatch catalyst_compress.py --steps 5 --size 65 --ratio 100 -o in_situ
    mpiexec -n 2 neurcomp pvbatch --sym catalyst_compress.py --steps 5 --size 65 --ratio 100 -o in_situ
    NEURCOMP_PSNR=50 neurcomp pvbatch -m paraview.demos.wavelet_miniapp --script-version 2 -s catalyst_compress.py

On several ranks each writes its piece of the grid.
"""

import os
import sys
import traceback
from pathlib import Path

from paraview import catalyst
from paraview.simple import SaveData, TrivialProducer
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from neurcomp_core.errors import NeurCompError
from neurcomp_filters import scripting

# ----------------------------------------------------------------------------------------- settings, to be edited
CHANNEL = os.environ.get("NEURCOMP_CHANNEL", "input")  # the simulation's name for its data
FOLDER = Path(os.environ.get("NEURCOMP_FOLDER", "in_situ"))
EVERY = int(os.environ.get("NEURCOMP_EVERY", "1"))  # time steps
if "NEURCOMP_PSNR" in os.environ:
    TARGET = {"Target": "PSNR", "PSNR": float(os.environ["NEURCOMP_PSNR"])}
else:
    TARGET = {"Target": "Compression Ratio", "Ratio": float(os.environ.get("NEURCOMP_RATIO", "100"))}
CODEC = {
    "Codec": os.environ.get("NEURCOMP_CODEC", "auto"),
    # A simulation waits while we compress.
    "Preset": os.environ.get("NEURCOMP_PRESET", "fast"),
    "CodecParameters": os.environ.get("NEURCOMP_PARAMETERS", ""),
}
# -----------------------------------------------------------------------------------------------------------------

options = catalyst.Options()
options.GlobalTrigger = "TimeStep"
options.GlobalTrigger.Frequency = EVERY


def catalyst_execute(info):
    """Called by Catalyst for each time step that `options` lets through."""
    try:
        with scripting.loud("catalyst_compress"):
            producer.UpdatePipeline(info.time)
            FOLDER.mkdir(parents=True, exist_ok=True)
            SaveData(str(FOLDER / f"{CHANNEL}_{info.timestep:06d}.nvc"), proxy=producer, **TARGET, **CODEC)
    except BaseException as error:
        # Catalyst prints what comes out of here and goes on without output; no one would notice before the run's end.
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def main():
    """Run the mini-app with this file as its script."""
    found = scripting.parser(__doc__)
    found.add_argument("-o", "--output", type=Path, default=FOLDER, metavar="FOLDER")
    found.add_argument("--steps", type=int, default=5, help="time steps of the simulation")
    found.add_argument("--size", type=int, default=65, help="samples per axis")
    found.add_argument("--every", type=int, default=1, help="write every N-th step")
    target = found.add_mutually_exclusive_group()
    target.add_argument("--ratio", type=float)
    target.add_argument("--psnr", type=float)
    found.add_argument("--codec", default=CODEC["Codec"])
    found.add_argument("--preset", default=CODEC["Preset"])
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="codec parameter; repeatable")
    arguments = found.parse_args()
    # Catalyst imports this file anew: settings reach it through the environment.
    given = {
        "FOLDER": arguments.output,
        "EVERY": arguments.every,
        "CODEC": arguments.codec,
        "PRESET": arguments.preset,
        "PARAMETERS": " ".join(arguments.set),
        "RATIO": arguments.ratio,
        "PSNR": arguments.psnr,
    }
    os.environ.update({f"NEURCOMP_{key}": str(value) for key, value in given.items() if value is not None})
    with scripting.loud("catalyst_compress"):
        from paraview.demos import wavelet_miniapp

        run = ["--timesteps", str(arguments.steps), "--size", str(arguments.size), "--script-version", "2"]
        wavelet_miniapp.main(wavelet_miniapp.parser.parse_args([*run, "-s", os.path.abspath(__file__)]))
        ranks = vtkMultiProcessController.GetGlobalController()
        ranks.Barrier()
        if ranks.GetLocalProcessId() > 0:
            return
        written = sorted(arguments.output.glob(f"{CHANNEL}_*.nvc"))
        if not written:
            raise NeurCompError(f"the run wrote no file into '{arguments.output}'")
        size = sum(path.stat().st_size for path in written)
        # Catalyst's end takes ParaView's sys.stdout with it.
        os.write(1, f"{arguments.output}: {len(written)} files, {size:,} bytes\n".encode())


if __name__ == "__main__":
    main()  # without sys.exit: pvbatch must come to its end, where it leaves MPI in order
else:
    producer = TrivialProducer(registrationName=CHANNEL)
