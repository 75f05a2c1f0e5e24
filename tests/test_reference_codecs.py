"""Storage in 16 and 8 bits: every code there is, and both ways to round."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from downslope.reference.codecs import (
    bfloat16_decode,
    bfloat16_encode,
    float16_decode,
    float16_encode,
    float32_toward_zero,
    uint8_decode,
    uint8_encode,
)

CODES = np.arange(2**16, dtype=np.uint16)
BFLOAT16, FLOAT16 = CODES.view(ml_dtypes.bfloat16), CODES.view(np.float16)
RANDOM16, RANDOM20 = np.arange(2**16, dtype=np.uint32), np.arange(2**20, dtype=np.uint32)
LARGEST = float(np.finfo(np.float32).max)


def f32(*numbers):
    return np.array(numbers, np.float32)


def assert_same(actual, expected):
    """The same bits, signs of zeros included; any NaN equals any NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert_array_equal(np.isnan(actual), np.isnan(expected))
    known = ~np.isnan(expected)
    assert actual.dtype == expected.dtype and actual[known].tobytes() == expected[known].tobytes()


# ---- float64 to float32 ----


def test_toward_zero_is_the_nearest_float32_that_is_not_larger():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20000) * 10.0 ** rng.uniform(-46, 38, 20000)
    y = float32_toward_zero(x)
    away = np.nextafter(y, np.copysign(np.float32(np.inf), x.astype(np.float32)))
    assert y.dtype == np.float32
    assert (np.abs(y.astype(float)) <= np.abs(x)).all() and (np.abs(x) < np.abs(away.astype(float))).all()
    assert (np.signbit(y) == np.signbit(x)).all()
    assert (x == 0).sum() == 0 and (y == 0).any(), "some are below the smallest float32"


@pytest.mark.filterwarnings("ignore:invalid value")  # of signalling NaNs
def test_toward_zero_keeps_what_float32_has_and_never_makes_an_infinity():
    exact = np.concatenate([FLOAT16.astype(np.float32), f32(LARGEST, -LARGEST, 1e-45, -1e-45, np.nan)])
    assert_same(float32_toward_zero(exact), exact)
    assert_same(float32_toward_zero(exact.astype(float)), exact)
    beyond = np.array([3.5e38, -3.5e38, 1e300, -1e300, np.inf, -np.inf])
    assert_array_equal(float32_toward_zero(beyond), f32(LARGEST, -LARGEST, LARGEST, -LARGEST, np.inf, -np.inf))


# ---- 16 bits ----

FORMATS = pytest.mark.parametrize(
    ("encode", "decode", "all_values"),
    [(bfloat16_encode, bfloat16_decode, BFLOAT16), (float16_encode, float16_decode, FLOAT16)],
    ids=["bfloat16", "float16"],
)


def with_what_lies_between(all_values):
    """Every number of a 16-bit format, the midpoint to the next, what is next to these, and the largest float32s."""
    low, following = all_values.astype(np.float32), np.roll(all_values, -1).astype(np.float32)
    both = np.isfinite(low) & np.isfinite(following)
    middle = (low / 2 + following / 2)[both]
    points = np.concatenate([low[np.isfinite(low)], middle, f32(LARGEST, 65519.99, 65520, 65536, np.inf, np.nan)])
    sides = [np.nextafter(points, side) for side in f32(np.inf, -np.inf)]
    return np.concatenate([points, *sides])


@FORMATS
def test_all_patterns_decode(encode, decode, all_values):
    assert_same(decode(CODES), all_values.astype(np.float32))


@pytest.mark.filterwarnings("ignore:invalid value")  # of signalling NaNs
@FORMATS
def test_all_patterns_come_back(encode, decode, all_values):
    """To nearest, and whatever the random bits: a number that is one of the format never moves."""
    nan = np.isnan(all_values.astype(np.float32))
    for random in (None, 0, 1, 0x7FFF, 0x8000, 0xFFFF):
        bits = None if random is None else np.full(CODES.size, random, np.uint32)
        code = encode(decode(CODES), bits)
        assert code.dtype == np.uint16
        assert_array_equal(code[~nan], CODES[~nan])
        assert np.isnan(decode(code[nan])).all()


@pytest.mark.filterwarnings("ignore:invalid value")  # of signalling NaNs
def test_bfloat16_has_one_nan():
    patterns = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFC00000, 0xFFFFFFFF], np.uint32)
    for random in (None, np.full(6, 0xFFFF, np.uint32)):
        assert_array_equal(bfloat16_encode(patterns.view(np.float32), random), 0x7FC0)


@pytest.mark.filterwarnings("ignore:.*encountered")
@FORMATS
def test_to_nearest(encode, decode, all_values):
    """Against ml_dtypes and NumPy, at all midpoints and on both sides of them."""
    x = with_what_lies_between(all_values)
    assert_same(decode(encode(x)), x.astype(all_values.dtype).astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*encountered")
@FORMATS
def test_stochastic_rounding_ends_at_a_neighbour(encode, decode, all_values):
    """Whatever the random bits, the ends among them: down is a cut toward zero, up is the next one."""
    x = with_what_lies_between(all_values)
    x = x[np.isfinite(x)]
    code = x.astype(all_values.dtype).view(np.uint16)
    down = code - (np.abs(decode(code)) > np.abs(x))  # infinity, too, is above the largest
    up = down + (decode(down) != x)
    for random in (0, 1, 0x1234, 0x7FFF, 0x8000, 0xEDCB, 0xFFFF):
        rounded = encode(x, np.full(x.size, random, np.uint32))
        in_range = np.abs(x) < 2.0**16 if all_values is FLOAT16 else True
        assert ((rounded == down) | (rounded == up) | ~in_range).all()
        if random == 0:
            assert ((rounded == down) | ~in_range).all()


def test_halves_overflow_to_infinity():
    x = f32(65536, -65536, 1e10, -LARGEST, np.inf, -np.inf)
    for random in (None, np.zeros(6, np.uint32), np.full(6, 0xFFFF, np.uint32)):
        assert_array_equal(float16_decode(float16_encode(x, random)), np.copysign(f32(np.inf), x))


def test_bfloat16_goes_up_as_often_as_it_should():
    """All 65,536 random numbers: of them as many carry as there are 65,536ths between the neighbours. Exactly."""
    rng = np.random.default_rng(2)
    patterns = [rng.integers(0, 0x7F800000, 40), [0, 1, 0xFFFF, 0x10000, 0x7F7FFFFF, 0x7FFFFF], [0x3F800000 + 0x8000]]
    for pattern in np.concatenate(patterns).astype(np.uint32):
        for sign in (0, 0x80000000):
            x = np.full(RANDOM16.size, pattern | np.uint32(sign), np.uint32).view(np.float32)
            steps = bfloat16_encode(x, RANDOM16) - ((pattern | np.uint32(sign)) >> 16)
            assert set(steps.tolist()) <= {0, 1}
            assert steps.sum() == pattern & 0xFFFF


def test_float64_rounds_stochastically_as_if_directly():
    """What is cut off on the way to float32 could not have carried: the count is that of the exact fraction."""
    rng = np.random.default_rng(3)
    for number in (rng.standard_normal(40) * 10.0 ** rng.uniform(-30, 30, 40)).tolist() + [1 + 2**-8 - 2**-50]:
        steps = bfloat16_encode(np.full(RANDOM16.size, number), RANDOM16).astype(np.int64)
        low, high = (Fraction(float(v)) for v in bfloat16_decode(np.array([steps[0], steps[0] + 1], np.uint16)))
        part = (Fraction(number) - low) / (high - low)
        assert set((steps - steps[0]).tolist()) <= {0, 1}
        assert (steps - steps[0]).sum() == math.floor(part * 65536)


def test_halves_go_up_as_often_as_they_should():
    """13 of the random bits decide."""
    rng = np.random.default_rng(4)
    for x in f32(*rng.uniform(-1e4, 1e4, 30), *rng.uniform(-(2.0**-14), 2.0**-14, 30), 1 / 3, 2.0**-25, 1e-9):
        code = float16_encode(np.full(RANDOM16.size, x), RANDOM16)
        spacing = max(2.0**-24, 2.0 ** (math.frexp(x)[1] - 11))
        part = abs(float(x)) / spacing % 1
        assert set((code - code[0]).tolist()) <= {0, 1}
        assert np.abs(float16_decode(code[:1])[0]) == math.floor(abs(float(x)) / spacing) * spacing
        assert (code - code[0]).mean() == pytest.approx(part, abs=2**-13)


# ---- 8 bits ----


def values_of_codes(signed):
    """The numbers that the codes stand for, beside a scale of 1, in exact arithmetic."""
    numbers = []
    for code in range(256):
        exponent, fraction = divmod((code & 127 if signed else code) + 1, 8)
        number = math.ldexp(1 + fraction / 8, exponent - (16 if signed else 32))
        if signed:
            number = 0.0 if code & 127 == 0 else -number if code & 128 else number
        numbers.append(number)
    return np.array(numbers, np.float32)


SIGNS = pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])


def round_trip(x, signed, random=None):
    """Through 8 bits and back."""
    random = np.random.default_rng(5).integers(0, 2**20, len(x), np.uint32) if random is None else random
    codes, scales = uint8_encode(x, signed, random)
    assert codes.dtype == np.uint8 and codes.shape == (len(x),)
    assert scales.dtype == np.float32 and scales.shape == (math.ceil(len(x) / 256),)
    decoded = uint8_decode(codes, scales, signed)
    assert decoded.dtype == np.float32
    return decoded


@SIGNS
def test_all_codes_decode(signed):
    codes = np.arange(256, dtype=np.uint8)
    for scale in f32(1, 0.5, 2.0**-90, 2.0**126, 0.3, LARGEST):
        assert_same(uint8_decode(codes, f32(scale), signed), values_of_codes(signed) * scale)
    assert_array_equal(uint8_decode(codes, f32(0), signed), 0)
    assert np.isnan(uint8_decode(codes, f32(np.nan), signed)).all()


def test_the_range_of_the_codes():
    unsigned, signed = values_of_codes(False), values_of_codes(True)
    assert (unsigned[0], unsigned[-1]) == (1.125 * 2.0**-32, 1)
    assert (signed[1], signed[127], signed[255]) == (1.25 * 2.0**-16, 1, -1)
    assert (unsigned[1:] / unsigned[:-1]).max() == (signed[2:128] / signed[1:127]).max() == 1.125


@SIGNS
def test_all_codes_come_back(signed):
    """Beside a 1 that sets the scale. No random bits move them."""
    codes = np.delete(np.arange(256), [128] if signed else [])  # 128 is a zero, which has no sign
    x = np.zeros((256, 256), np.float32)
    x[:, 0], x[:, 1] = 1, values_of_codes(signed)
    for random in (0, 1, 0x7FFFF, 0x80000, 0xFFFFF):
        stored, scales = uint8_encode(x.reshape(-1), signed, np.full(x.size, random, np.uint32))
        assert_array_equal(stored.reshape(256, 256)[codes, 1], codes)
        assert_array_equal(scales, 1)


@SIGNS
def test_codes_are_stable(signed):
    """What has been stored once is stored again without a change: rounding is no drift.

    But for 16 in 2^20 random numbers: the product with the scale's inverse may be some units in the last place off.
    """
    rng = np.random.default_rng(6)
    x = (rng.standard_normal(2000) * 10.0 ** rng.uniform(-12, 0, 2000)).astype(np.float32)
    once = round_trip(x if signed else np.abs(x), signed)
    for random in (np.full(2000, 8, np.uint32), np.full(2000, 0xFFFF7, np.uint32)):
        assert_same(round_trip(once, signed, random), once)


@SIGNS
def test_a_block_that_shrinks_as_a_whole_is_not_rounded(signed):
    """Averages do so under vanishing gradients. Only the scale moves, which is exact."""
    rng = np.random.default_rng(10)
    x = rng.standard_normal(1000).astype(np.float32)
    first, scales = uint8_encode(x if signed else np.abs(x), signed, rng.integers(0, 2**20, 1000, np.uint32))
    for _ in range(1000):
        values = uint8_decode(first, scales, signed) * np.float32(0.999)
        codes, smaller = uint8_encode(values, signed, rng.integers(8, 2**20 - 8, 1000, np.uint32))
        assert_array_equal(codes, first)
        assert_array_equal(smaller, scales * np.float32(0.999))
        scales = smaller


@SIGNS
@pytest.mark.parametrize("T", [np.float32, np.float64])
def test_the_error_is_less_than_an_eighth(signed, T):
    """And rounding ends at a neighbour, from the largest of a block down to the smallest that has a code."""
    rng = np.random.default_rng(7)
    octaves = 16 if signed else 32
    x = 2.0 ** rng.uniform(0.33 - octaves, 0, (200, 256)) * 10.0 ** rng.uniform(-25, 35, (200, 1))
    x *= rng.choice([-1, 1], x.shape) if signed else 1
    x[:, 7] = 1.0001 * np.abs(x).max(axis=1)
    x = x.astype(T).reshape(-1)
    values = values_of_codes(signed)
    values = np.unique(values if signed else np.append(values, f32(0)))
    scale = float32_toward_zero(np.abs(x).reshape(200, 256).max(axis=1)).repeat(256)
    above = np.searchsorted(values, np.clip(x / scale.astype(float), -1, 1), side="left")
    # Not by the last 8 random numbers of either end: the ratio to the scale may be some units in the last place off.
    for random in (None, np.full(x.size, 8, np.uint32), np.full(x.size, 0xFFFF7, np.uint32)):
        y = round_trip(x, signed, random)
        assert (np.abs(y - x) < np.abs(x) / 8).all()
        assert ((y == values[above] * scale) | (y == values[above - 1] * scale)).all()


@SIGNS
def test_codes_go_up_as_often_as_they_should(signed):
    """All 2^20 random numbers: the mean of what comes back is the number, exactly."""
    rng = np.random.default_rng(8)
    lowest = 1.25 * 2.0**-16 if signed else 1.125 * 2.0**-32
    for number in np.exp2(rng.uniform(math.log2(lowest), 0, 12)).tolist() + [lowest, 0.9999]:
        number *= -1 if signed and rng.integers(2) else 1
        x = np.full(RANDOM20.size + 2**13, number, np.float32)
        x[::256] = 1  # one to set the scale in every block ...
        others = x != 1
        others &= np.cumsum(others) <= RANDOM20.size  # ... and as many others as there are random numbers
        x, others = x[: np.flatnonzero(others)[-1] + 1], others[: np.flatnonzero(others)[-1] + 1]
        random = np.zeros(x.size, np.uint32)
        random[others] = RANDOM20
        y = round_trip(x, signed, random)[others]
        assert len(np.unique(y)) <= 2
        assert y.astype(float).mean() == float(x[others][0])


@SIGNS
def test_nearest_for_initial_values(signed):
    """To nearest, with halves going away from zero."""
    x = f32(1, 17 / 32 - 2.0**-24, 17 / 32, 19 / 32, 19 / 32 - 2.0**-24, 31 / 32, 17 / 64)
    expected = f32(1, 0.5, 0.5625, 0.625, 0.5625, 1, 0.28125)
    for sign in (1, -1) if signed else (1,):
        codes, scales = uint8_encode(sign * x, signed)
        assert_array_equal(scales, 1)
        assert_array_equal(uint8_decode(codes, scales, signed), sign * expected)


@SIGNS
def test_a_block_of_zeros(signed):
    x = np.zeros(600, np.float32)
    x[1::2] = -0.0 if signed else 0.0
    x[300] = 5  # in the second block; the first and the last have nothing
    for random in (None, np.full(600, 0xFFFFF, np.uint32)):
        codes, scales = uint8_encode(x, signed, random)
        assert_array_equal(scales, f32(0, 5, 0))
        y = uint8_decode(codes, scales, signed)
        assert_array_equal(y[:256], 0)
        assert_array_equal(y[512:], 0)
    if signed:
        assert_same(y[x == 0], np.zeros(599, np.float32))  # and no zero has a sign


def test_nothing_beside_something_is_small_but_not_zero():
    """Without a sign; the root of what comes back, which a step is divided by, is 1/62,000 of the largest's."""
    x = f32(3, 0, 1e-20, 1e-40, 1e-45)
    for random in (0, 0xFFFFF):
        y = round_trip(x, False, np.full(5, random, np.uint32))
        assert_array_equal(y[1:], 3 * 1.125 * 2.0**-32)


def test_small_numbers_with_a_sign_become_zero():
    """Below 1.125 * 2^-16 of the scale always; from there to the first code, 1.25 * 2^-16, sometimes."""
    tiny = 1.125 * 2.0**-16
    x = f32(1, 0, np.nextafter(f32(tiny), f32(0))[0], -1e-6, 1e-45, -0.0)
    y = round_trip(x, True, np.full(6, 0xFFFFF, np.uint32))
    assert_same(y, f32(1, 0, 0, 0, 0, 0))
    x = f32(1, 1.1875 * 2.0**-16, -1.1875 * 2.0**-16)
    assert_array_equal(round_trip(x, True, np.full(3, 0x7FFFF, np.uint32)), f32(1, 0, 0))
    assert_array_equal(round_trip(x, True, np.full(3, 0x80000, np.uint32)), f32(1, 1.25 * 2.0**-16, -1.25 * 2.0**-16))


@SIGNS
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_takes_its_block_along(signed, bad):
    x = np.full(600, 0.5, np.float32)
    x[400] = bad if signed else abs(bad)
    codes, scales = uint8_encode(x, signed, np.zeros(600, np.uint32))
    y = uint8_decode(codes, scales, signed)
    assert np.isnan(y[256:512]).all() and not codes[256:512].any()
    assert_array_equal(y[:256], 0.5)
    assert_array_equal(y[512:], 0.5)
    again = round_trip(y + np.float32(1), signed)
    assert np.isnan(again[256:512]).all() and np.isfinite(again[:256]).all()


@SIGNS
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 600])
def test_blocks_are_of_256_and_the_last_may_be_short(signed, size):
    x = 10.0 ** -np.arange(size // 256 + 1).repeat(256)[:size].astype(np.float32)
    codes, scales = uint8_encode(x, signed, np.zeros(size, np.uint32))
    assert scales.shape == (math.ceil(size / 256),)
    assert_array_equal(scales, x[::256])
    y = uint8_decode(codes, scales, signed)
    assert (np.abs(y - x) <= x / 8).all()


@SIGNS
def test_subnormals_have_the_least_scale(signed):
    """The smallest normal number, so that its inverse is finite; they are stored relative to that."""
    for top in (1e-45, 1e-42, 1e-40, 2.0**-127):
        x = f32(top, top / 3)
        codes, scales = uint8_encode(x, signed, np.zeros(2, np.uint32))
        assert scales == 2.0**-126
        y = uint8_decode(codes, scales, signed)
        assert (np.abs(y - x) <= np.where(x * 2.0**126 < 2.0**-15, x, x / 8) + 2.0**-149).all()
    for top in (2.0**-126, 1.5 * 2.0**-126, 2.0**-100):
        assert uint8_encode(f32(top), signed, np.zeros(1, np.uint32))[1] == f32(top)


@SIGNS
def test_huge_numbers(signed):
    """Cut from float64, they do not become infinite; nor does rounding make them so."""
    for x in (f32(LARGEST), np.array([1e200]), np.array([3.41e38])):
        for random in (0, 8, 0xFFFFF):
            y = round_trip(x, signed, np.full(1, random, np.uint32))
            assert y in (f32(LARGEST), f32(LARGEST) * f32(0.9375)) and (random == 0 or y == f32(LARGEST))
    assert np.isnan(round_trip(np.array([np.inf]), signed)).all()


def test_float64_is_cut_first():
    """A number just below a power of two keeps the scale below it."""
    below = np.array([1 - 2.0**-40, 0.25])
    codes, scales = uint8_encode(below, True, np.full(2, 8, np.uint32))
    assert_array_equal(scales, f32(1 - 2.0**-24))
    assert_array_equal(uint8_decode(codes, scales, True), f32(1 - 2.0**-24, 0.25 * (1 - 2.0**-24)))


# ---- why state is never rounded to nearest ----


@pytest.mark.parametrize("codec", ["bfloat16", "unsigned", "signed"])
def test_a_moving_average_rounded_to_nearest_stands_still(codec):
    """With beta = 0.999, fed with zeros: rounded stochastically it decays as 0.999^t on average, to nearest never.

    In 8 bits that is so beside an element that stays, and with it the scale.
    """

    def stored(x, bits):
        if codec == "bfloat16":
            return bfloat16_decode(bfloat16_encode(x, bits and rng.integers(0, 2**bits, x.size, np.uint32)))
        random = bits and rng.integers(0, 2**20, x.size, np.uint32)
        return uint8_decode(*uint8_encode(x, codec == "signed", random), codec == "signed")

    rng = np.random.default_rng(9)
    stuck = decaying = np.ones(20000, np.float32)
    beta = np.full(20000, 0.999, np.float32)
    beta[::256] = 1
    for _ in range(1000):
        stuck, decaying = (stored(beta * x, bits) for x, bits in ((stuck, None), (decaying, 16)))
    assert_array_equal(stuck, 1)
    assert_allclose(decaying[beta < 1].mean(), 0.999**1000, rtol=0.01)
