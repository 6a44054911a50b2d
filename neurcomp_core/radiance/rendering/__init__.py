"""Differentiable emission-absorption rendering of radiance fields: numba kernels on the CPU, plain torch anywhere."""
