"""K-FAC's `update` and `precondition` for a 784-256-128-10 perceptron and batches of 256, against NumPy and SciPy.

Run as ``python benchmarks/preconditioners.py`` for NumPy on all cores, and with ``OPENBLAS_NUM_THREADS=1`` for NumPy on
one; SciPy is used if it is there. Inputs and gradients are float32, and factors are float64 in all formulations but
those that say otherwise. Directions are compared before anything is timed. The sides take turns, round by round; a
ratio is the median over the rounds.
"""

import numpy as np
from side_by_side import Race, cell

import downslope as ds

try:
    import scipy.linalg as scipy_linalg
except ModuleNotFoundError:
    scipy_linalg = None

SIZES, BATCH, DAMPING, DECAY = (784, 256, 128, 10), 256, 1e-3, 0.95
LAYERS = {f"fc{i}": shape for i, shape in enumerate(zip(SIZES, SIZES[1:]), start=1)}


def problem(seed=0):
    """A batch, and gradients in W and b."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    batch = {name: (normal(BATCH, n_in), normal(BATCH, n_out)) for name, (n_in, n_out) in LAYERS.items()}
    return batch, {name: (normal(*shape), normal(shape[1])) for name, shape in LAYERS.items()}


class Formulation:
    """The same by NumPy, with factors in `dtype` and systems solved by `solve`."""

    def __init__(self, dtype, solve):
        self.dtype, self.solve, self.count = dtype, solve, 0
        self.factors = {name: (self.zeros(n_in + 1), self.zeros(n_out)) for name, (n_in, n_out) in LAYERS.items()}

    def zeros(self, n):
        return np.zeros((n, n), self.dtype)

    def step(self, batch, grads):
        self.count += 1
        weight = min(1 - 1 / self.count, DECAY)
        directions = {}
        for name, (inputs, output_grads) in batch.items():
            rows = np.column_stack([inputs, np.ones(len(inputs), inputs.dtype)]), output_grads
            for factor, x in zip(self.factors[name], rows):
                factor *= weight
                factor += (x.T @ x) * np.float32((1 - weight) / len(x))
            A, G = self.factors[name]
            pi, root = np.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G))), np.sqrt(DAMPING)
            Y = self.solve(self.damped(A, pi * root), np.vstack(grads[name]).astype(self.dtype))
            D = self.solve(self.damped(G, root / pi), Y.T).T.astype(np.float32)
            directions[name] = D[:-1], D[-1]
        return directions

    @staticmethod
    def damped(factor, damping):
        damped = factor.copy()
        damped.flat[:: len(factor) + 1] += damping
        return damped


def cho_solve(matrix, v):
    """By a Cholesky factorization, which NumPy alone cannot solve by."""
    factor = scipy_linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return scipy_linalg.cho_solve(factor, v, check_finite=False)


def formulations():
    """By name."""
    made = {
        "NumPy": Formulation(np.float64, np.linalg.solve),
        "NumPy, float32": Formulation(np.float32, np.linalg.solve),
    }
    if scipy_linalg:
        made["SciPy"] = Formulation(np.float64, cho_solve)
        made["SciPy, float32"] = Formulation(np.float32, cho_solve)
    return made


def main():
    batch, grads = problem()
    kfac = ds.KFAC(LAYERS, damping=DAMPING, decay=DECAY)

    def ours():
        kfac.update(batch)
        return kfac.precondition(grads)

    others = formulations()
    expected = ours()
    for name, other in others.items():
        for layer, direction in other.step(batch, grads).items():
            for got, want in zip(direction, expected[layer]):
                tolerance = 1e-2 if "float32" in name else 1e-4  # of the largest element
                assert np.abs(got - want).max() <= tolerance * np.abs(want).max(), (name, layer)
    usual = ds.get_num_threads()
    mine = {f"downslope, {n} thread{'s' * (n > 1)}": n for n in dict.fromkeys((1, usual))}
    steps = {name: (lambda other=other: other.step(batch, grads)) for name, other in others.items()}
    timed = Race({**dict.fromkeys(mine, ours), **steps}, threads=mine, pause=0.3)
    widest = f"downslope, {usual} thread{'s' * (usual > 1)}"
    print(f"{'update + precondition':<24}{'ms':>8}{'times ours, one thread':>26}{'ours, all':>14}")
    for name in timed.seconds:
        print(
            f"{name:<24}{cell(timed.us(name) / 1e3, 8)}"
            f"{cell(timed.ratio(name, 'downslope, 1 thread'), 26)}{cell(timed.ratio(name, widest), 14)}"
        )


if __name__ == "__main__":
    ds.show_config()
    print()
    main()
