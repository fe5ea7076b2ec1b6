"""Slow and obvious versions of every step of the science, to which the fast kernels are held.

They are written from the description of the method alone, with NumPy, SciPy and scikit-image, for clarity.
"""
