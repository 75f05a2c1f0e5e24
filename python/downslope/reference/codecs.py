"""How numbers are stored in 16 and 8 bits, and the two ways to round them: to nearest, and stochastically.

Stochastic rounding (Gupta et al. 2015) adds random bits below the last bit that is kept and then cuts: a number between
two neighbours goes to either, to the nearer one more often, so that on average nothing is lost. Moving averages need
that: with beta = 0.999 a step changes them by less than half a unit in the last place of 8 bits, and to nearest they
would stand still.

Encoders take flat arrays and random bits (uint32), or None to round to nearest. Decoding is exact.
"""

import numpy as np

BLOCK = 256  # elements that share a scale
INFINITY = 0x7F800000  # its bits in float32; those of a NaN are larger
MAGNITUDE = 0x7FFFFFFF  # all bits but the sign
ONE = 1016  # the upper 12 bits of 1.0 in float32


def float32_toward_zero(x):
    """`x` cut to float32; a finite number too large becomes the largest float32.

    Stochastic rounding is a cut, too: a cut after a cut is one cut, so that float64 is in effect rounded directly.
    """
    with np.errstate(over="ignore"):
        y = x.astype(np.float32)
    return np.where(np.abs(y) > np.abs(x), np.nextafter(y, np.float32(0)), y)


def bfloat16_encode(x, random=None):
    """The upper halves of float32, as uint16, rounded to nearest even or by 16 random bits.

    To nearest, float64 is rounded twice: what is just above the midpoint of two neighbours counts as the midpoint.
    """
    bits = float32_toward_zero(x).view(np.uint32)
    carry = 0x7FFF + ((bits >> 16) & 1) if random is None else random
    return np.where(np.isnan(x), 0x7FC0, (bits + carry) >> 16).astype(np.uint16)


def bfloat16_decode(code):
    """The float32 numbers whose upper halves these are."""
    return (code.astype(np.uint32) << 16).view(np.float32)


def float16_encode(x, random=None):
    """IEEE halves of float32, as uint16, rounded to nearest even or by 16 random bits.

    Stochastically, the upper 13 of the bits decide, as many as a normal half loses.
    """
    if random is None:
        with np.errstate(over="ignore"):
            return x.astype(np.float16).view(np.uint16)
    bits, magnitude = x.view(np.uint32), np.abs(x)
    # 13 bits of fraction go, and the exponent's bias falls from 127 to 15.
    half = np.minimum((((bits & MAGNITUDE) + (random >> 3)) >> 13) - (112 << 10), 0x7C00)
    # Below the smallest normal half, halves are the multiples of 2**-24, numbered by their bits.
    tiny = magnitude < 2.0**-14
    multiple = np.where(tiny, magnitude, 0) * np.float32(2**24) + (random >> 3).astype(np.float32) * np.float32(2**-13)
    half = np.where(tiny, multiple.astype(np.uint32), half)
    return (np.where(np.isnan(x), 0x7E00, half) | ((bits >> 16) & 0x8000)).astype(np.uint16)


def float16_decode(code):
    """The float32 numbers equal to these halves."""
    return code.view(np.float16).astype(np.float32)


def uint8_encode(x, signed, random=None):
    """One byte for each element, and a scale for each block of 256, the last of which may be short.

    A byte is a floating-point number with 3 bits of fraction, relative to the block's scale, its largest magnitude.
    Blocks with a scale go back to Dettmers et al. 2022. The scale is exact, so that nothing is rounded where all
    elements of a block shrink alike.

    - Unsigned, for what is never negative: code c is 2**e (1 + f/8) with 8 (e + 32) + f = c + 1, from 1.125 * 2**-32 to
      1 times the scale. No code is zero: beside a large second moment a tiny one comes back too large, which makes a
      step too short, not zero, which would make it infinite.
    - Signed: the sign, then 7 bits m. m = 0 is zero; else 8 (e + 16) + f = m + 1, from 1.25 * 2**-16 to 1 times the
      scale.

    Within these ranges stochastic rounding is unbiased, and its error is less than an eighth of the number.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n,)
    signed : bool
    random : ndarray of uint32, shape (n,), optional
        20 random bits. None rounds to nearest, halves away from zero.

    Returns
    -------
    codes : ndarray of uint8, shape (n,)
    scales : ndarray of float32, shape (ceil(n / 256),)
        0 for a block of zeros; NaN for one that holds a NaN or an infinity: then all of it is NaN.
    """
    bits = float32_toward_zero(x).view(np.uint32).astype(np.int64)
    magnitude = bits & MAGNITUDE
    top = np.maximum.reduceat(magnitude, np.arange(0, x.size, BLOCK))
    finite = top < INFINITY
    divisor = np.maximum(top, 1 << 23)  # 2**-126 at least, so that its inverse is finite
    scales = np.where(top == 0, 0, np.where(finite, divisor, 0x7FC00000)).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        inverse = np.float32(1) / divisor.astype(np.uint32).view(np.float32)
        ratio = float32_toward_zero(x) * of_elements(inverse, x.size)

    # Read as integers, floats are in order and carry from the fraction into the exponent. 20 of 23 bits of fraction go.
    carry = 1 << 19 if random is None else random
    last = 127 if signed else 255
    codes = ((ratio.view(np.uint32) & MAGNITUDE).astype(np.int64) + carry >> 20) - (ONE - last)
    codes = np.clip(codes, 0, last)
    if signed:
        codes |= (bits >> 31) << 7
    return np.where(of_elements(finite, x.size), codes, 0).astype(np.uint8), scales


def uint8_decode(codes, scales, signed):
    """What `uint8_encode` stored, as float32."""
    bits = codes.astype(np.uint32)
    if signed:
        magnitude = bits & 0x7F
        bits = np.where(magnitude == 0, 0, ((magnitude + (ONE - 127)) << 20) | ((bits >> 7) << 31))
    else:
        bits = (bits + (ONE - 255)) << 20
    return bits.view(np.float32) * of_elements(scales, codes.size)


def of_elements(blocks, size):
    """What belongs to each block, for each of `size` elements."""
    return np.repeat(blocks, BLOCK)[:size]
