"""Say in an installed tree where this Python's packages are: environment.py FOLDER DESTDIR [PVPYTHON].

``python/neurcomp.pth`` is for the plugin of a ParaView that was told PV_PLUGIN_PATH alone; ``environment.sh`` is for
shells, and for ParaView before 5.12 with Python 3.11.
"""

import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from neurcomp_cli import installation

folder, destination, pvpython = sys.argv[1], Path(sys.argv[2] + sys.argv[1]), sys.argv[3:]
packages = installation.packages_folders()
variables = {
    "NEURCOMP_PYTHON": f"{sys.version_info[0]}.{sys.version_info[1]}",
    "NEURCOMP_SITE_PACKAGES": os.pathsep.join([f"{folder}/python", *packages]),
    "NEURCOMP_OWN_MODULES": ",".join(installation.packages.import_names()),
}
if pvpython and pvpython[0]:
    found = installation.inspect(Path(pvpython[0]), os.environ)
    installation.check_python(found)
    if found.needs_getargspec:
        variables["NEURCOMP_GETARGSPEC"] = "1"
lines = [f"# For ParaView's programs: . {folder}/environment.sh"]
lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
for name, place in (("PV_PLUGIN_PATH", "plugins"), ("PYTHONPATH", "startup")):
    lines.append(f"export {name}={shlex.quote(f'{folder}/{place}')}${{{name}:+:${name}}}")
lines.append("export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}")
(destination / "environment.sh").write_text("\n".join(lines) + "\n")
variables["NEURCOMP_SITE_PACKAGES"] = os.pathsep.join(packages)
variables.pop("NEURCOMP_GETARGSPEC", None)
# Python runs lines that begin with import.
(destination / "python" / "neurcomp.pth").write_text(
    f"import os, runpy; os.environ.update({variables!r}); "
    f"runpy.run_path({f'{folder}/startup/sitecustomize.py'!r})['_append_packages']()\n"
)
