"""Running preconditioners as plain dense matrices, formed and solved with: what those of the core must equal to
rounding. Gradients of a layer are row-major vectors, with the bias as the last row of W."""

import numpy as np

from downslope.reference.curvature import factored_kronecker, solve


class Running:
    """The average w M + (1 - w) x with w = min(1 - 1/k, decay)."""

    def __init__(self, decay):
        self.decay, self.count, self.value = decay, 0, 0.0

    def update(self, x):
        self.count += 1
        w = min(1 - 1 / self.count, self.decay)
        self.value = w * self.value + (1 - w) * x


def second_moment(rows):
    """The mean of x x^T."""
    return sum(np.outer(x, x) for x in rows) / len(rows)


def with_one(inputs, bias):
    """The inputs with a 1 for the bias."""
    return np.column_stack([inputs, np.ones(len(inputs))]) if bias else inputs


class KFAC:
    """One layer; gradients are of shape (n_in + bias, n_out)."""

    def __init__(self, bias=True, damping=1e-3, mode="factored", decay=0.95):
        self.bias, self.damping, self.mode = bias, damping, mode
        self.A, self.G = Running(decay), Running(decay)

    def update(self, inputs, output_grads):
        self.A.update(second_moment(with_one(inputs, self.bias)))
        self.G.update(second_moment(output_grads))

    def matrix(self):
        """The damped curvature."""
        A, G = self.A.value, self.G.value
        if self.mode == "factored":
            return factored_kronecker(A, G, self.damping)
        return np.kron(A, G) + self.damping * np.eye(len(A) * len(G))

    def precondition(self, grad):
        return solve(self.matrix(), grad.ravel()).reshape(grad.shape)


class EKFAC:
    """One layer, with eigenvectors computed anew at every `period`-th update."""

    def __init__(self, bias=True, damping=1e-3, decay=0.95, period=10):
        self.bias, self.damping, self.decay, self.period = bias, damping, decay, period
        self.A, self.G = Running(decay), Running(decay)

    def update(self, inputs, output_grads):
        a = with_one(inputs, self.bias)
        self.A.update(second_moment(a))
        self.G.update(second_moment(output_grads))
        k = self.A.count
        if (k - 1) % self.period == 0:
            alpha, Qa = np.linalg.eigh(self.A.value)
            gamma, Qg = np.linalg.eigh(self.G.value)
            self.basis, self.S = np.kron(Qa, Qg), np.kron(alpha, gamma)
        squares = [(self.basis.T @ np.kron(x, g)) ** 2 for x, g in zip(a, output_grads)]  # kron: a gradient of W
        w = min(1 - 1 / k, self.decay)
        self.S = w * self.S + (1 - w) * np.mean(squares, axis=0)

    def matrix(self):
        """The damped curvature."""
        return self.basis @ np.diag(self.S + self.damping) @ self.basis.T

    def precondition(self, grad):
        return solve(self.matrix(), grad.ravel()).reshape(grad.shape)


class TONGA:
    """One block, whose gradients are vectors."""

    def __init__(self, rank=5, period=10, decay=0.995, damping=1e-3):
        self.rank, self.period, self.damping = rank, period, damping
        self.C = Running(decay)

    def update(self, grad):
        self.C.update(np.outer(grad, grad))
        if self.C.count % self.period == 0:
            values, vectors = np.linalg.eigh(self.C.value)
            leading = vectors[:, -self.rank :]
            self.C.value = leading @ np.diag(values[-self.rank :]) @ leading.T

    def precondition(self, grad):
        return solve(self.C.value, grad, self.damping)


class DiagonalFisher:
    """One array."""

    def __init__(self, decay=0.95, damping=1e-3):
        self.damping = damping
        self.F = Running(decay)

    def update(self, grads):
        self.F.update(np.mean([g * g for g in grads], axis=0))

    def precondition(self, grad):
        return solve(np.diag(self.F.value.ravel()), grad.ravel(), self.damping).reshape(grad.shape)
