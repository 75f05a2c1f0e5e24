"""Every curvature against the dense matrix that it stands for: products, solutions, shifts, errors."""

import numpy as np
import pytest
from curvature_cases import CASES, positive, symmetric
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import assert_same_bits

import downslope as ds
from downslope.reference import curvature as reference

curvature = ds.curvature
LinAlgError = np.linalg.LinAlgError
cases = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def assert_close(x, expected, relative=1e-12):
    """To rounding: the matrices here have condition numbers of up to some hundreds."""
    assert x.shape == expected.shape
    assert np.abs(x - expected).max() <= relative * np.abs(expected).max()


@cases
def test_products(case, rng):
    C, matrix = case(rng, symmetric)
    n = len(matrix)
    assert C.shape == (n, n) and repr(C) == f"{type(C).__name__}(shape=({n}, {n}))"
    assert_close(C.to_dense(), matrix)
    for v in (rng.standard_normal(n), rng.standard_normal((n, 3))):
        assert_close(C.matvec(v), matrix @ v)


@cases
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_solutions(case, damping, rng):
    C, matrix = case(rng, positive)
    F = C.factorize(damping)
    assert F.shape == C.shape and not np.any(F.shift)
    for shape in ((len(matrix),), (len(matrix), 1), (len(matrix), 3), (len(matrix), 70)):
        v = rng.standard_normal(shape)
        before = v.copy()
        expected = reference.solve(matrix, v, damping)
        assert_close(F.solve(v), expected)
        assert_same_bits(C.solve(v, damping), F.solve(v))
        assert_same_bits(v, before)


@cases
def test_no_right_hand_side_at_all(case, rng):
    C, matrix = case(rng, positive)
    assert C.solve(np.zeros((len(matrix), 0))).shape == C.matvec(np.zeros((len(matrix), 0))).shape == (len(matrix), 0)


@cases
def test_dtypes_of_vectors(case, rng):
    """float32 in, float32 out: what float64 gives, rounded."""
    C, matrix = case(rng, positive)
    v = rng.integers(-9, 9, (len(matrix), 2))
    for work in (C.solve, C.matvec):
        exact = work(v.astype(float))
        for u, dtype in ((v.astype(np.float32), np.float32), (v, np.float64), (v.astype(">f8"), np.float64)):
            assert work(u).dtype == dtype
            assert_same_bits(work(u), exact.astype(dtype))
        assert_same_bits(work(np.asfortranarray(v)), exact)
        assert_same_bits(work(v[:, 0].tolist()), work(v[:, 0].astype(float)))


@cases
def test_what_is_not_finite_in_vectors_propagates(case, rng, silent):
    C, matrix = case(rng, positive)
    for value in (np.nan, np.inf):
        v = np.full(len(matrix), value)
        assert not np.isfinite(C.solve(v)).any() and not np.isfinite(C.matvec(v)).all()


@cases
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), damping=st.floats(0, 10))
def test_solving_undoes_multiplying(case, seed, damping):
    rng = np.random.default_rng(seed)
    C, matrix = case(rng, positive)
    v = rng.standard_normal(len(matrix))
    assert_close(C.solve(C.matvec(v) + damping * v, damping), v)


@cases
def test_threads_change_no_bit(case, rng, forced_threads):
    C, matrix = case(rng, symmetric)
    v = rng.standard_normal((len(matrix), 70))
    results = []
    for threads in (1, 2, 3):
        with forced_threads(threads):
            F = C.factorize(0.1, ensure_positive=True)
            results.append((F.solve(v), np.array(F.shift), C.matvec(v)))
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert_same_bits(x, y)


@pytest.mark.parametrize("sizes", [[260], [300], [512], [600], [640, 5, 5, 520], [1100]])
def test_large_matrices_in_tiles(sizes, rng, forced_threads):
    """The last column of tiles is narrower than the others, or as wide."""
    halves = [rng.standard_normal((n, n)) for n in sizes]
    blocks = [half @ half.T / len(half) + np.eye(len(half)) for half in halves]
    expected = reference.solve(reference.block_diagonal(blocks), np.ones(sum(sizes)), 0.1)
    for C in [curvature.BlockDiagonal(blocks)] + ([curvature.Dense(*blocks)] if len(blocks) == 1 else []):
        solutions = []
        for threads in (1, 2, 3):
            with forced_threads(threads):
                solutions.append(C.solve(np.ones(sum(sizes)), 0.1))
        assert_same_bits(*solutions[:2])
        assert_same_bits(*solutions[1:])
        assert_close(solutions[0], expected)


@pytest.mark.parametrize("n", [1, 2, 8, 31, 32, 33, 127, 128, 129, 255, 256, 257])
def test_every_size_of_block(n, rng):
    blocks = np.array([positive(rng, n) for _ in range(3)])
    v = rng.standard_normal(3 * n)
    assert_close(
        curvature.BlockDiagonal(blocks).solve(v, 0.1), reference.solve(reference.block_diagonal(blocks), v, 0.1)
    )


def with_zeros(pattern, n, rng):
    """A positive definite matrix most of whose rows begin with zeros."""
    row, col = np.indices((n, n))
    kept = {
        "diagonal": row == col,
        "band": np.abs(row - col) <= 1,
        "wide band": np.abs(row - col) <= 21,
        "last rows": (row == col) | (np.maximum(row, col) >= n - 3),
        "first rows": (row == col) | (np.minimum(row, col) < 3),
        "blocks": row // 11 == col // 11,
        "scattered": rng.random((n, n)) < 0.3 / n,
    }[pattern]
    A = np.where(kept | kept.T, symmetric(rng, n), 0)
    return A + np.diag(np.abs(A).sum(axis=0) + 1)


@pytest.mark.parametrize("pattern", ["diagonal", "band", "wide band", "last rows", "first rows", "blocks", "scattered"])
@pytest.mark.parametrize("n", [9, 30, 200, 301, 603, 1100])
def test_rows_that_begin_with_zeros(pattern, n, rng, forced_threads):
    A = with_zeros(pattern, n, rng)
    v = rng.standard_normal(n)
    with forced_threads(2):
        assert_close(curvature.Dense(A).solve(v), np.linalg.solve(A, v))
        A[n // 2, n // 2] -= 2 * A.max()
        F = curvature.Dense(A).factorize(ensure_positive=True)
        assert 1 <= F.shift / reference.smallest_shift(A) <= 2.001
        assert_close(F.solve(v), np.linalg.solve(A + F.shift * np.eye(n), v), 1e-10)


@pytest.mark.parametrize("pivot", [0, 63, 64, 300, -1])
@pytest.mark.parametrize("n", [33, 36, 130, 301, 603])
def test_the_shift_of_a_matrix_in_tiles(n, pivot, rng, forced_threads):
    """What failed, in whatever tile, leaves no trace."""
    A = positive(rng, n)
    pivot = min(pivot, n - 1)
    A[pivot, pivot] -= 2 * np.abs(A).max()
    v = rng.standard_normal(n)
    solutions = []
    for threads in (1, 2):
        with forced_threads(threads):
            with pytest.raises(LinAlgError, match="H is not positive definite"):
                curvature.Dense(A).factorize()
            F = curvature.Dense(A).factorize(ensure_positive=True)
            solutions.append(F.solve(v))
    assert 1 <= F.shift / reference.smallest_shift(A) <= 2.001
    assert_close(solutions[0], np.linalg.solve(A + F.shift * np.eye(n), v), 1e-10)
    assert_same_bits(*solutions)


@pytest.mark.parametrize("n", [5, 8, 9, 64, 130, 513])
def test_every_element_is_looked_at(n, rng):
    A = positive(rng, n)
    for index in [(0, n - 1), (n - 1, 0), (n // 2, n // 3), (n // 3, n // 2), (n - 1, n - 1), (n - 2, n - 1)]:
        for make in (curvature.Dense, lambda H: curvature.BlockDiagonal(np.stack([H] * 9))):
            make(A)
            for value, word in ((np.nan, "finite"), (-np.inf, "finite"), (7.0, "symmetric")):
                if not (word == "symmetric" and index[0] == index[1]):
                    with pytest.raises(ValueError, match=f"must be {word}"):
                        make(changed(A, index, value))


def hilbert(n):
    """The Hilbert matrix in integers, and so exact; ill-conditioned."""
    multiple = np.lcm.reduce(np.arange(1, 2 * n))
    return np.array([[multiple / (i + j + 1) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("n", [8, 9])
def test_refinement(n):
    """Residuals in twice the precision leave the square of the error of a solution without refinement."""
    H = hilbert(n)
    b = H.sum(axis=1)  # exact
    error = np.linalg.cond(H) * np.finfo(float).eps
    far = np.zeros((40, 40))
    far[np.arange(40), np.arange(40)] = 1
    far[:n, :n] = H
    for C in (curvature.Dense(H), curvature.BlockDiagonal([H, H]), curvature.Dense(far)):
        x = C.solve(np.resize(b, C.shape[0]) if len(b) * 2 == C.shape[0] else np.r_[b, np.ones(C.shape[0] - n)])
        assert np.abs(x - 1).max() <= 10 * error**2 + 1e-15
    assert np.abs(np.linalg.solve(H, b) - 1).max() > 100 * error**2


@pytest.mark.parametrize("n", [16, 20])
def test_what_is_singular_to_working_precision_is_said_to_be_so(n):
    """Condition numbers from 1e18 on: nothing of a solution would be right."""
    H = hilbert(n)
    for C in (curvature.Dense(H), curvature.BlockDiagonal([np.eye(n), H])):
        with pytest.raises(LinAlgError, match="not positive definite|singular to working precision"):
            C.solve(np.ones(C.shape[0]))
        C.solve(np.ones(C.shape[0]), 1e-6 * H.max())


@cases
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), damping=st.sampled_from([0.0, 0.5, 3.0]), scale=st.floats(1e-3, 1e3))
def test_the_shift_is_at_most_twice_the_smallest(case, seed, damping, scale):
    rng = np.random.default_rng(seed)
    C, matrix = case(rng, lambda rng, n: scale * symmetric(rng, n))
    F = C.factorize(damping, ensure_positive=True)
    blocks = [matrix]
    if np.ndim(F.shift):
        ends = np.flatnonzero(~np.any(np.tril(matrix, -1) != 0, axis=1))
        blocks = [matrix[i:j, i:j] for i, j in zip(ends, [*ends[1:], len(matrix)], strict=True)]
    shifts = np.atleast_1d(F.shift)
    assert len(shifts) == len(blocks)
    for block, shift in zip(blocks, shifts, strict=True):
        smallest = reference.smallest_shift(block, damping)
        rounding = 1e-12 * np.abs(block).max()
        assert smallest - rounding <= shift <= 2.001 * smallest + rounding
    shifted = matrix + np.diag(np.repeat(shifts, [len(block) for block in blocks]))
    v = rng.standard_normal(len(matrix))
    assert_close(F.solve(v), reference.solve(shifted, v, damping), 1e-9)


@pytest.mark.parametrize(
    "H", [np.zeros((2, 2)), np.ones((3, 3)), -np.eye(2), np.diag([1e300, -1e300]), np.diag([1.0, -1e-30])]
)
def test_shifts_of_singular_and_extreme_matrices(H):
    for C in (curvature.Dense(H), curvature.BlockDiagonal([H]), curvature.Diagonal(np.diag(H) * (H[0, -1] == 0))):
        with pytest.raises(LinAlgError):
            C.factorize()
        F = C.factorize(ensure_positive=True)
        assert np.all(F.shift > 0) and np.all(F.shift <= 2.001 * max(1e-15, reference.smallest_shift(H)))
        assert np.isfinite(F.solve(np.ones(len(H)))).all()


@pytest.mark.parametrize("n, examples", [(2, 1), (3, 1), (8, 3), (30, 10), (40, 39), (150, 20), (520, 50)])
@pytest.mark.parametrize("decades", [0, 4])
def test_what_has_been_made_positive_can_be_solved_with(n, examples, decades, silent):
    """Fewer examples than parameters leave a Fisher matrix singular. The shift is all rounding, but not too small."""
    for seed in range(20 if n < 500 else 2):
        rng = np.random.default_rng(seed)
        G = rng.standard_normal((examples, n)) * 10 ** rng.uniform(-decades, decades, n)
        H, V = G.T @ G, np.column_stack([np.ones(n), G[0], rng.standard_normal((n, 5))])
        for C in (curvature.Dense(H), curvature.BlockDiagonal([H]), curvature.LowRank(G.T, np.zeros(n))):
            F = C.factorize(ensure_positive=True)
            assert np.all(F.shift <= 1e-12 * H.max() * np.sqrt(n))
            solutions = [F.solve(v) for v in V.T]  # raises if one has no digit
            assert np.isfinite(solutions).all()


def without(n, *vectors):
    """The identity but for the directions of these, which are orthogonal."""
    return np.eye(n) - sum(np.outer(v, v) / np.dot(v, v) for v in vectors)


def one_hot(*codes):
    """The Gram matrix of a table of indicators, which add up to the constant in each factor."""
    rows = np.stack(np.meshgrid(*map(np.arange, codes)), axis=-1).reshape(-1, len(codes))
    X = np.hstack([np.ones((len(rows), 1))] + [np.eye(n)[rows[:, k]] for k, n in enumerate(codes)])
    return X.T @ X


@pytest.mark.parametrize(
    "H",
    [
        np.array([[1.0, -2, 0], [-2, 4, 0], [0, 0, 0]]),  # two null vectors, of which one is exact
        without(10, np.arange(10) == 3),
        without(69, np.isin(np.arange(69), [3, 42]) * 1.0 - np.isin(np.arange(69), [11, 34])),
        without(40, np.pad([1.0, -2, 1], (37, 0)), np.pad([1.0, -1, -1, 1], (0, 36))),
        one_hot(6, 2),
        one_hot(7, 5, 4),
    ],
    ids=["rank 1", "unit", "contrast", "differences", "table", "larger table"],
)
def test_special_null_vectors(H, rng):
    for C in (curvature.Dense(H), curvature.BlockDiagonal([np.eye(2), H])):
        F = C.factorize(ensure_positive=True)
        assert np.all(F.shift < 1e-12 * H.max())
        for _ in range(100):
            assert np.isfinite(F.solve(rng.standard_normal(C.shape[0]))).all()  # raises if it has no digit


@pytest.mark.parametrize("scale", [1e-320, 1e-310, 2e-308, 1e-300, 1e300])
def test_singular_matrices_of_any_scale(scale):
    H = np.full((2, 2), scale)
    for C in (curvature.Dense(H), curvature.BlockDiagonal([H]), curvature.LowRank(np.sqrt(H[:, :1]), np.zeros(2))):
        F = C.factorize(ensure_positive=True)
        assert np.all(F.shift > 0) and np.all(F.shift < 1e-12 * max(scale, 1e-295))
        assert np.isfinite(F.solve(np.array([0.5, 1]))).all()


@pytest.mark.parametrize("n", [12, 40])
def test_a_column_that_is_not_finite_leaves_the_others_alone(n, rng):
    H = positive(rng, n)
    for C in (curvature.Dense(H), curvature.BlockDiagonal([H, H])):
        v = np.ones(C.shape[0])
        solutions = C.solve(np.column_stack([v, np.full(len(v), np.nan), v]))
        assert np.isnan(solutions[:, 1]).all()
        for k in (0, 2):
            assert_close(solutions[:, k], C.solve(v), 1e-15)
    singular, v = hilbert(12), np.ones(12)
    with pytest.raises(LinAlgError, match="singular to working precision"):
        curvature.Dense(singular / singular.max()).solve(np.column_stack([v, v * np.nan]))


@pytest.mark.parametrize(
    "make, array",
    [
        (curvature.Dense, 2 * np.eye(3)),
        (curvature.Diagonal, np.arange(1.0, 4)),
        (curvature.BlockDiagonal, np.array([2 * np.eye(3), np.eye(3)])),
        (lambda array: curvature.BlockDiagonal([np.eye(2), array]), 2 * np.eye(40)),
        (lambda array: curvature.Kronecker(np.eye(2), array), 2 * np.eye(3)),
        (lambda array: curvature.Kronecker([np.eye(2), array], [np.eye(2), np.eye(3)]), 2 * np.eye(3)),
        (lambda array: curvature.LowRank(np.ones((3, 1)), array), np.arange(1.0, 4)),
    ],
)
def test_a_factorization_is_a_snapshot(make, array):
    C = make(array)
    F = C.factorize()
    v = np.arange(C.shape[0])
    x = F.solve(v)
    array *= -1
    assert_same_bits(F.solve(v), x)
    with pytest.raises(LinAlgError):
        C.factorize()
    array[...] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        C.factorize()


def test_arrays_are_kept_by_reference_if_they_can_be(rng):
    a = positive(rng, 4)
    v = rng.standard_normal(4)
    by_reference, copied, listed = curvature.Dense(a), curvature.Dense(a.T), curvature.Dense(a.tolist())
    a *= 2
    assert_close(by_reference.solve(v), np.linalg.solve(a, v))
    for C in (copied, listed):
        assert_close(C.solve(v), np.linalg.solve(a / 2, v))
    C = curvature.Dense(positive(rng, 4))  # no other reference
    assert_close(C.matvec(v), C.to_dense() @ v)


def test_float32_matrices_may_be_symmetric_to_their_own_rounding(rng):
    a = positive(rng, 6)
    b = a.copy()
    b[0, 1] *= 1 + 1e-6
    for name, make in (("H", curvature.Dense), (r"blocks\[0\]", lambda h: curvature.BlockDiagonal([h]))):
        C = make(b.astype(np.float32))
        half = b.astype(np.float32).astype(float)
        assert_close(C.solve(np.ones(6)), np.linalg.solve((half + half.T) / 2, np.ones(6)))
        with pytest.raises(ValueError, match=f"{name} must be symmetric"):
            make(b)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: curvature.Dense("H"),
            TypeError,
            "H must be an array of real numbers that float64 can hold, got dtype <U1",
        ),
        (
            lambda: curvature.Dense(np.eye(2) + 0j),
            TypeError,
            "H must be an array of real numbers that float64 can hold, got dtype complex128",
        ),
        (lambda: curvature.Dense(np.ma.masked_array(np.eye(2))), TypeError, "H must not be a masked array"),
        (lambda: curvature.Dense([[1], [1, 2]]), ValueError, "^H must be an array: .*inhomogeneous"),
        (lambda: curvature.Kronecker([[[1], [1, 2]]], [[[1]]]), ValueError, r"^A\[0\] must be an array: .*inhomog"),
        (lambda: curvature.Dense(np.ones(3)), ValueError, r"H must have 2 axes .*, got shape \(3,\)"),
        (lambda: curvature.Dense(np.ones((0, 0))), ValueError, r"at least one element, got shape \(0, 0\)"),
        (lambda: curvature.Dense(np.ones((2, 3))), ValueError, r"H must be square, got shape \(2, 3\)"),
        (lambda: curvature.Dense([[1.0, np.inf], [np.inf, 1.0]]), ValueError, "H must be finite"),
        (lambda: curvature.Dense(changed(np.eye(600), (0, 599), 1e-3)), ValueError, "H must be symmetric"),
        (lambda: curvature.Dense(changed(np.eye(600), (599, 0), np.nan)), ValueError, "H must be finite"),
        (lambda: curvature.Diagonal(np.eye(2)), ValueError, r"d must have 1 axes .*, got shape \(2, 2\)"),
        (lambda: curvature.Diagonal([1.0, np.nan]), ValueError, "d must be finite"),
        (lambda: curvature.BlockDiagonal([]), ValueError, "blocks must be at least one, got none"),
        (lambda: curvature.BlockDiagonal(np.eye(2)), ValueError, r"blocks must have 3 axes .*, got shape \(2, 2\)"),
        (
            lambda: curvature.BlockDiagonal(np.ones((2, 2, 3))),
            ValueError,
            r"blocks must be square, got shape \(2, 2, 3\)",
        ),
        (lambda: curvature.BlockDiagonal([np.eye(2), np.ones(2)]), ValueError, r"blocks\[1\] must have 2 axes"),
        (lambda: curvature.BlockDiagonal([np.eye(2), np.eye(40) * np.nan]), ValueError, r"blocks\[1\] must be finite"),
        (lambda: curvature.Kronecker(np.eye(2), np.ones((2, 3))), ValueError, "B must be square"),
        (lambda: curvature.Kronecker(np.eye(2) * np.nan, np.eye(2)), ValueError, "A must be finite"),
        (
            lambda: curvature.Kronecker([np.eye(2)], np.eye(2)),
            ValueError,
            "B must be a list of as many .* as A, 1, got",
        ),
        (lambda: curvature.Kronecker([np.eye(2)] * 2, [np.eye(3)]), ValueError, "B must be a list of as many"),
        (
            lambda: curvature.Kronecker([np.eye(2)] * 2, [np.eye(3), np.tri(3)]),
            ValueError,
            r"B\[1\] must be symmetric",
        ),
        (lambda: curvature.LowRank(np.ones(3), np.ones(3)), ValueError, "U must have 2 axes"),
        (
            lambda: curvature.LowRank(np.ones((3, 1)), np.ones(2)),
            ValueError,
            "diag must have as many .* rows, 3, got 2",
        ),
        (lambda: curvature.LowRank(np.ones((3, 1)), [1, np.nan, 1]), ValueError, r"diag \+ U U\^T must be finite"),
        (
            lambda: curvature.BlockDiagonal(changed(np.stack([np.eye(2)] * 20), (17, 0, 1), 1.0)),
            ValueError,
            r"blocks\[17\] must be symmetric",
        ),
        (
            lambda: curvature.BlockDiagonal(changed(np.stack([np.eye(2)] * 20), (9, 1, 1), -np.inf)),
            ValueError,
            r"blocks\[9\] must be finite",
        ),
    ],
)
def test_what_is_no_curvature(make, error, message):
    with pytest.raises(error, match=message):
        make()


@cases
def test_bad_arguments(case, rng):
    C, matrix = case(rng, positive)
    n = len(matrix)
    F = C.factorize()
    for damping, error in ((-0.1, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError)):
        for call in (C.factorize, lambda damping: C.solve(np.ones(n), damping)):
            with pytest.raises(error, match="damping must be "):
                call(damping)
    with pytest.raises(TypeError, match="ensure_positive must be True or False, got 1"):
        C.factorize(ensure_positive=1)
    for work in (C.solve, C.matvec, F.solve):
        for v in (np.ones(n + 1), np.ones((1, n + 1)), np.ones((n, 1, 1)), 1.0):
            with pytest.raises(ValueError, match="v must have shape "):
                work(v)
        with pytest.raises(TypeError, match="v must be an array of real numbers"):
            work(np.ones(n) * 1j)


@pytest.mark.parametrize("bad", [0, 9, 18])
@pytest.mark.parametrize("n", [3, 40])
def test_the_error_names_the_block(n, bad):
    blocks = np.stack([np.eye(n)] * 19)
    blocks[bad, 1, 1] = -2
    with pytest.raises(LinAlgError, match=rf"blocks\[{bad}\] is not positive definite with damping 1:"):
        curvature.BlockDiagonal(blocks).factorize(1.0)
    curvature.BlockDiagonal(blocks).factorize(2.1)


def test_numbers_that_overflow():
    for C in (curvature.Dense(np.eye(2) * 1e308), curvature.BlockDiagonal(np.eye(2)[None] * 1e308)):
        with pytest.raises((LinAlgError, ValueError)):
            C.factorize(1.7e308)


def test_a_kronecker_product_acts_on_matrices(rng):
    A, B, X = positive(rng, 3), positive(rng, 5), rng.standard_normal((3, 5))
    C = curvature.Kronecker(A, B)
    assert_close(C.matvec(X), A @ X @ B.T)
    assert_same_bits(C.matvec(X).ravel(), C.matvec(X.ravel()))
    for mode in ("exact", "factored"):
        assert_close(C.solve(C.matvec(X), mode=mode), X)
    assert C.solve(X.astype(np.float32)).dtype == np.float32
    column = rng.standard_normal((3, 1))
    assert_close(curvature.Kronecker(A, [[2.0]]).solve(column), np.linalg.solve(2 * A, column))
    with pytest.raises(ValueError, match="v must have shape"):
        C.solve(X.T)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("a, b", [(1, 1), (5, 4), (4, 70), (70, 65), (3, 1)])
def test_factored_damping(a, b, damping, rng, forced_threads):
    A, B = positive(rng, a), positive(rng, b)
    C = curvature.Kronecker(A, B)
    v = rng.standard_normal((a * b, 2))
    expected = np.linalg.solve(reference.factored_kronecker(A, B, damping), v)
    solutions = []
    for threads in (1, 2):
        with forced_threads(threads):
            solutions.append(C.solve(v, damping, mode="factored"))
    assert_close(solutions[0], expected)
    assert_same_bits(*solutions)
    several = curvature.Kronecker([A, 2 * A], [B, B]).factorize(damping, mode="factored")
    assert several.shift.shape == (2, 2)
    assert_close(several.solve(np.r_[v, v])[: a * b], expected)


@pytest.mark.parametrize("A, B", [(np.zeros((2, 2)), 2 * np.eye(3)), (np.eye(2), np.zeros((3, 3)))])
def test_pi_is_one_where_a_factor_is_zero(A, B):
    x = curvature.Kronecker(A, B).solve(np.ones(6), 0.25, mode="factored")
    assert_close(x, np.linalg.solve(reference.factored_kronecker(A, B, 0.25), np.ones(6)))
    assert_close(curvature.Kronecker(A, B).solve(np.ones(6), 0.25), np.full(6, 4.0))


@pytest.mark.parametrize("a, b", [(-150, -150), (-300, 0), (0, -160), (150, 160), (300, -300), (0, 300)])
def test_exact_damping_whatever_the_units(a, b, rng):
    """Squares of these numbers would over- or underflow; the solution is a number wherever the matrix is one."""
    A, B = positive(rng, 5), positive(rng, 4)
    v = rng.standard_normal(20)
    in_units = curvature.Kronecker(A * 10.0**a, B * 10.0**b)
    # Two factors in turn, since 10^310 is too large for a number.
    assert_close(in_units.solve(v) * 10.0**a * 10.0**b, np.linalg.solve(reference.kronecker(A, B), v))
    if abs(a + b) < 300:
        damping = 0.3 * 10.0**a * 10.0**b
        expected = np.linalg.solve(reference.kronecker(A, B) + 0.3 * np.eye(20), v)
        assert_close(in_units.solve(v, damping) * 10.0**a * 10.0**b, expected)


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_the_shift_of_a_kronecker_product_in_any_units(unit, rng):
    A, B = symmetric(rng, 3), symmetric(rng, 4)
    shift = curvature.Kronecker(A * unit, B).factorize(ensure_positive=True).shift[()] / unit
    assert 1 <= shift / reference.smallest_shift(reference.kronecker(A, B)) <= 2.001


def test_damping_far_from_the_product(rng):
    A, B = positive(rng, 3), positive(rng, 4)
    v = rng.standard_normal(12)
    assert_close(curvature.Kronecker(A * 1e-200, B * 1e-200).solve(v, 2.0), v / 2)
    assert_same_bits(curvature.Kronecker(A, B).solve(v, 1e-310), curvature.Kronecker(A, B).solve(v))


def test_factored_damping_makes_each_factor_positive(rng):
    A, B = symmetric(rng, 6), symmetric(rng, 4)
    with pytest.raises(LinAlgError, match="^A is not positive definite"):
        curvature.Kronecker(A, B).factorize(mode="factored")
    with pytest.raises(LinAlgError, match=r"^B\[1\] is not positive definite"):
        curvature.Kronecker([np.eye(2)] * 2, [np.eye(2), B]).factorize(1e-9, mode="factored")
    with pytest.raises(LinAlgError, match=r"^A \(x\) B is not positive definite"):
        curvature.Kronecker(A, B).factorize()
    F = curvature.Kronecker(A, B).factorize(ensure_positive=True, mode="factored")
    for matrix, shift in zip((A, B), F.shift, strict=True):
        assert 1 <= shift / reference.smallest_shift(matrix) <= 2.001
    shifted = np.kron(A + F.shift[0] * np.eye(6), B + F.shift[1] * np.eye(4))
    v = rng.standard_normal(24)
    assert_close(F.solve(v), np.linalg.solve(shifted, v), 1e-10)
    with pytest.raises(ValueError, match="mode must be 'exact' or 'factored', got 'both'"):
        curvature.Kronecker(A, B).factorize(1.0, mode="both")


def test_a_singular_kronecker_product(rng):
    """Rounding may leave its smallest eigenvalue on either side of zero."""
    g = rng.standard_normal((2, 5))
    for mode in ("exact", "factored"):
        with pytest.raises(LinAlgError):
            curvature.Kronecker(g.T @ g, np.eye(3)).factorize(mode=mode)
        with pytest.raises(LinAlgError):
            curvature.Kronecker(np.eye(3), g.T @ g).factorize(mode=mode)


@pytest.mark.parametrize("damping", [0.0, 1e-300, 1e-8, 1.0])
def test_low_rank_with_any_diagonal(damping, rng):
    """Zero, negative and tiny elements of the diagonal, as many as U has columns."""
    n, rank = 12, 3
    U, diag = rng.standard_normal((n, rank)), np.linspace(1, 2, n)
    for special in ([0.0, 0.0, 0.0], [1e-200, -1e-3, 0.0], [1e-10, 1e-13, 1e-20]):
        diag[3:6], U[3:6] = special, 3 * np.eye(3)
        matrix = reference.low_rank(U, diag)
        v = rng.standard_normal((n, 2))
        assert_close(curvature.LowRank(U, diag).solve(v, damping), reference.solve(matrix, v, damping))
    diag[7] = -1.0  # more than U can make up for
    with pytest.raises(LinAlgError, match=r"diag \+ U U\^T is not positive definite"):
        curvature.LowRank(U, diag).factorize()


def test_low_rank_refinement(rng):
    """Woodbury's identity alone loses the digits that the refinement step gives back."""
    n = 50
    U, diag = 1e4 * rng.standard_normal((n, 4)), np.ones(n)
    x = rng.standard_normal(n)
    C = curvature.LowRank(U, diag)
    b = C.matvec(x)
    K = np.eye(4) + U.T @ U
    unrefined = b - U @ np.linalg.solve(K, U.T @ b)
    residual = np.abs(C.matvec(C.solve(b)) - b).max()
    assert residual < 1e-2 * np.abs(C.matvec(unrefined) - b).max()
