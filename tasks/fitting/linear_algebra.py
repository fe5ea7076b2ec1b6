"""Least squares with a handful of unknowns inside bounds, solved in closed form."""

import numpy as np
from numpy.typing import NDArray

from tasks.kernel import inner_kernel, kernel

Array = NDArray[np.float64]

FREE, AT_LOW, AT_HIGH, FIXED = 0, -1, 1, 2
"""Where an unknown is: between its bounds, at one of them, or not unknown at all."""

_DEPENDENT = 1e-12
"""Share of a column that has to be left, after the columns before it are taken out, for it to count."""


@inner_kernel
def dot(a: Array, b: Array) -> float:
    """Sum of products; in whatever order is fast, which is the same in every call."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel
def subtract(target: Array, factor: float, column: Array) -> None:
    """Take a multiple of a column from the target."""
    for i in range(len(target)):
        target[i] -= factor * column[i]


@kernel
def orthogonalise(q: Array, r: Array) -> bool:
    """Factorise columns as Q R by the modified Gram-Schmidt process, twice where much of a column is lost.

    Parameters
    ----------
    q
        (m, n) the columns, as rows of this array; overwritten with orthonormal ones, and with zeros where a column
        depends on those before it.
    r
        (m, m) or larger; its upper triangle is filled in.

    Returns
    -------
    bool
        Whether all columns are independent.
    """
    independent = True
    for j in range(len(q)):
        whole = norm = np.sqrt(dot(q[j], q[j]))
        for i in range(len(q)):
            r[i, j] = 0.0
        for _ in range(2):
            before = norm
            for i in range(j):
                share = dot(q[i], q[j])
                r[i, j] += share
                subtract(q[j], share, q[i])
            norm = np.sqrt(dot(q[j], q[j]))
            if norm > 0.5 * before:
                break
        if norm > _DEPENDENT * whole:
            r[j, j] = norm
            for k in range(len(q[j])):
                q[j, k] /= norm
        else:
            independent = False
            q[j] = 0.0
    return independent


@kernel
def minimise_in_box(matrix: Array, vector: Array, low: Array, high: Array, x: Array, where: NDArray[np.int8]) -> bool:
    """Minimise x' M x / 2 - v' x between bounds, by trying all combinations of unknowns at their bounds.

    Parameters
    ----------
    matrix, vector
        M (m, m), symmetric and positive semidefinite, and v (m,).
    low, high
        (m,) bounds.
    x
        (m,) the minimum, filled in.
    where
        (m,) `FREE`, `AT_LOW` or `AT_HIGH`, filled in.

    Returns
    -------
    bool
        Whether there is one: not where something is not finite.
    """
    m = len(vector)
    trial, work = np.empty(m), np.empty((m, m))
    best, best_combination = np.inf, -1
    for combination in range(3**m):
        _spread(combination, where)
        for i in range(m):
            trial[i] = vector[i] if where[i] == FREE else low[i] if where[i] == AT_LOW else high[i]
        if not _solve_free(matrix, where, trial, work):
            continue
        inside, value = True, 0.0
        for i in range(m):
            inside &= where[i] != FREE or low[i] <= trial[i] <= high[i]
            half_slope = -vector[i]
            for j in range(m):
                half_slope += 0.5 * matrix[i, j] * trial[j]
            value += trial[i] * half_slope
        if inside and value < best:
            best, best_combination = value, combination
            x[:] = trial
            if combination == 0:  # what is best without bounds is best within
                break
    if best_combination >= 0:
        _spread(best_combination, where)
    return best_combination >= 0


@kernel
def _spread(combination: int, where: NDArray[np.int8]) -> None:
    """Tell a number from 0 to 3^m - 1 as a place for each unknown; 0 has them all free."""
    for i in range(len(where)):
        place = combination % 3
        where[i] = FREE if place == 0 else AT_LOW if place == 1 else AT_HIGH
        combination //= 3


@kernel
def _solve_free(matrix: Array, where: NDArray[np.int8], x: Array, work: Array) -> bool:
    """Solve for the free unknowns by elimination, where x holds the right side for them, and the others' values.

    Returns
    -------
    bool
        Whether there is one solution.
    """
    m = len(x)
    for i in range(m):
        if where[i] != FREE:
            continue
        for j in range(m):
            work[i, j] = matrix[i, j]
            if where[j] != FREE:
                x[i] -= matrix[i, j] * x[j]
    for i in range(m):
        if where[i] != FREE:
            continue
        if not work[i, i] > _DEPENDENT * matrix[i, i]:
            return False
        for row in range(i + 1, m):
            if where[row] == FREE:
                factor = work[row, i] / work[i, i]
                for j in range(i + 1, m):
                    work[row, j] -= factor * work[i, j]
                x[row] -= factor * x[i]
    for i in range(m - 1, -1, -1):
        if where[i] == FREE:
            for j in range(i + 1, m):
                if where[j] == FREE:
                    x[i] -= work[i, j] * x[j]
            x[i] /= work[i, i]
    return True


@kernel
def singular_values(r: Array, vectors: Array, values: Array) -> None:
    """Singular values and right singular vectors of a small square matrix, by one-sided Jacobi rotations.

    Parameters
    ----------
    r
        (p, p) the matrix; overwritten.
    vectors
        (p, p) whose columns are the right singular vectors, filled in.
    values
        (p,) filled in.
    """
    p = len(r)
    vectors[:] = 0.0
    for i in range(p):
        vectors[i, i] = 1.0
    for _ in range(60):
        rotated = False
        for i in range(p - 1):
            for j in range(i + 1, p):
                alpha = beta = gamma = 0.0
                for k in range(p):
                    alpha += r[k, i] * r[k, i]
                    beta += r[k, j] * r[k, j]
                    gamma += r[k, i] * r[k, j]
                if abs(gamma) <= 1e-15 * np.sqrt(alpha * beta):
                    continue
                rotated = True
                zeta = (beta - alpha) / (2.0 * gamma)
                tangent = (1.0 if zeta >= 0 else -1.0) / (abs(zeta) + np.sqrt(1.0 + zeta * zeta))
                cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
                sine = cosine * tangent
                for k in range(p):
                    r[k, i], r[k, j] = cosine * r[k, i] - sine * r[k, j], sine * r[k, i] + cosine * r[k, j]
                    vectors[k, i], vectors[k, j] = (
                        cosine * vectors[k, i] - sine * vectors[k, j],
                        sine * vectors[k, i] + cosine * vectors[k, j],
                    )
        if not rotated:
            break
    for j in range(p):
        values[j] = np.sqrt(dot(r[:, j], r[:, j]))
