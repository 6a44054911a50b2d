"""The `neurcomp` command."""
