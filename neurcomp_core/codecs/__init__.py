"""Codecs: one file each, registered by being here (see `neurcomp_core.codec`)."""
