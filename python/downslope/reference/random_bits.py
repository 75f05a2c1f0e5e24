"""Random bits without a state: a function of the seed and of what they are for.

Whatever else is drawn, before or in parallel, the bits for one element of one array at one of its steps are the same:
one of 256 fixed points, whose bits one key flips for each block of 256 elements and each slot. A word is uniform, and
independent from block to block, slot to slot and step to step. Within a block words are not independent but spread
evenly, as random shifts of point sets are that integrals are estimated with (L'Ecuyer & Lemieux 2000), and those of two
slots differ by the same bits throughout. That is good enough to round with, and for nothing else.
"""

import numpy as np

# Stochastically rounded parameters draw as if they were the slot with this number; no rule has four slots.
PARAMETER = 3


def mix(z):
    """One step of splitmix64 (Steele, Lea & Flood 2014), on an array of uint64."""
    z = z + 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


def random_bits(seed, array, count, slot, index, width):
    """So many bits for each element: its point, flipped by the key of the block and the slot.

    The points' upper 8 bits are all numbers of 8 bits, in an order in which neighbours are far apart; the rest is 0.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    array, count : int
        The array's number in the optimizer, and its own step count.
    slot : {0, 1, 2, 3}
        Which of the state's slots is rounded, or `PARAMETER`.
    index : ndarray of uint64
        Where each element stands in the whole array, in C order.
    width : int
        How many bits, from 8 to 32.

    Returns
    -------
    ndarray of uint32
    """
    # Arrays of one element, since integers of NumPy warn where they wrap.
    seed, array, count = (np.array([number], np.uint64) for number in (seed, array, count))
    key = mix(mix(mix(mix(seed) ^ array) ^ count) ^ ~((index >> 8) * 4 + slot)) >> (64 - width)
    point = (index * 157 & 255) << (width - 8)
    return (point ^ key).astype(np.uint32)
