"""Print the shell commands with which an installed tree works in ParaView: environment.py FOLDER [PVPYTHON]."""

import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from neurcomp_cli import installation

folder, pvpython = sys.argv[1], sys.argv[2:]
variables = {
    "NEURCOMP_PYTHON": f"{sys.version_info[0]}.{sys.version_info[1]}",
    "NEURCOMP_SITE_PACKAGES": os.pathsep.join([f"{folder}/python", *installation.packages_folders()]),
    "NEURCOMP_OWN_MODULES": ",".join(installation.packages.import_names()),
}
if pvpython and pvpython[0]:
    found = installation.inspect(Path(pvpython[0]), os.environ)
    installation.check_python(found)
    if found.needs_getargspec:
        variables["NEURCOMP_GETARGSPEC"] = "1"
print(f"# For ParaView's programs: . {folder}/environment.sh")
for name, value in variables.items():
    print(f"export {name}={shlex.quote(value)}")
for name, place in (("PV_PLUGIN_PATH", "plugins"), ("PYTHONPATH", "startup")):
    print(f"export {name}={shlex.quote(f'{folder}/{place}')}${{{name}:+:${name}}}")
print("export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}")
