"""The `neurcomp` command."""

import os

# Idle threads must not spin: two runs on one machine, or one beside ParaView, would starve each other. Read when OpenMP
# starts, so it has to be set before numba or torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
