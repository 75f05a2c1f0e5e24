"""The coefficients of the reference against exact and high-precision arithmetic."""

import fractions
import math

import numpy as np
import pytest
from reference_paths import U, exact_rectification

from downslope.reference.rules import power, rectification

POWERS = [
    (base, exponent)
    for base in (0.3, 0.5, 0.9, 0.95, 0.96**4e-3, 0.99, 0.999, 0.9999, 1 - U, 1.25)
    for exponent in (1, 2, 3, 5, 7, 10, 31, 32, 100, 999, 1024, 10007)
    if exponent * abs(math.log2(base)) < 1000  # beyond, a power is subnormal or infinite and has another bound
]


@pytest.mark.parametrize(("base", "exponent"), POWERS)
def test_power_against_exact_rationals(base, exponent):
    """t - 1 multiplications, however they are grouped, lose at most (t - 1) u / (1 - (t - 1) u)."""
    exact = fractions.Fraction(base) ** exponent
    error = abs(fractions.Fraction(power(base, exponent)) - exact) / exact
    assert error <= (exponent - 1) * U / (1 - (exponent - 1) * U)


def test_power_at_the_ends():
    assert [power(0.3, 0), power(0.0, 0), power(0.0, 7), power(1.0, 10**9)] == [1, 1, 0, 1]
    assert [power(0.5, t) for t in range(1074)] == [math.ldexp(1, -t) for t in range(1074)]
    assert power(0.9, 10**9) == 0


def test_power_squares_from_the_low_bit_up():
    """Which products are formed decides the last bit: b^13 is (b * b^4) * b^8."""
    for b in np.random.default_rng(0).uniform(0.5, 1, 100).tolist():
        b4 = (b * b) * (b * b)
        assert power(b, 13) == (b * b4) * (b4 * b4)


@pytest.mark.parametrize(
    ("beta2", "first"),
    [(0.0, None), (0.5, None), (0.6, None), (0.7, 10), (0.75, 8), (0.8, 7)]
    + [(beta2, 6) for beta2 in (0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999)],
)
def test_rectification_sets_in_at_the_known_step(beta2, first):
    """As beta2 -> 1, rho_t -> t from below: rho_5 never exceeds 5, and rho_6 does from beta2 = 0.9 on."""
    steps = range(1, 300)
    assert next((t for t in steps if exact_rectification(beta2, t) is not None), None) == first
    assert next((t for t in steps if rectification(beta2, t) is not None), None) == first
    if first is not None:
        assert all(rectification(beta2, t) is not None for t in range(first, 300))


@pytest.mark.parametrize("t", [1, 2, 5, 6, 7, 8, 10, 13, 50, 100, 1000, 20000])
@pytest.mark.parametrize("beta2", [0.5, 0.75, 0.8, 0.9, 0.99, 0.999, 0.9999])
def test_rectification_against_sixty_digits(beta2, t):
    """rho_t is a difference of numbers near rho_inf, themselves hurt by the cancellation in 1 - beta2^t."""
    expected, rho_inf = exact_rectification(beta2, t), 2 / (1 - beta2) - 1
    if expected is None:
        assert rectification(beta2, t) is None
    else:
        assert 0 < expected <= 1
        assert rectification(beta2, t) == pytest.approx(expected, rel=U * (rho_inf**2 + 8), abs=0)
