"""Training radiance fields from posed images."""
