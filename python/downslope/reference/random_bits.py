"""Random bits without a state: a function of the seed and of what they are for.

Whatever else is drawn, before or in parallel, the bits for one element of one array at one of its steps are the same.
They come of a strong hash of 64 bits, of what many elements share, and of something cheap for each element. That is
good enough to round with, and for nothing else.

- For 16 bits, a hash of 32 bits, of two multiplications: the lowest bits of a word depend on little more than the
  lowest bits of the element's number. They weigh least in what is rounded.
- For 8-bit codes, 256 fixed points, whose bits one key flips for each block of 256 elements and each slot. A word is
  uniform, and independent from block to block, slot to slot and step to step. Within a block words are not independent
  but spread evenly, as random shifts of point sets are that integrals are estimated with (L'Ecuyer & Lemieux 2000).
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


def random_words(seed, array, count, word, index):
    """32 random bits for each element.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    array, count : int
        The array's number in the optimizer, and its own step count.
    word : {0, 1}
        Which of an element's words.
    index : ndarray of uint64
        Where each element stands in the whole array, in C order.

    Returns
    -------
    ndarray of uint32
    """
    # Arrays of one element, since integers of NumPy warn where they wrap.
    seed, array, count = (np.array([number], np.uint64) for number in (seed, array, count))
    key = mix(mix(mix(mix(seed) ^ array) ^ count) ^ ((index >> 32) * 2 + word))
    low, high = key.astype(np.uint32), (key >> 32).astype(np.uint32)
    h = (index.astype(np.uint32) + low) * 0x7FEB352D  # a multiplier of Wellons' lowbias32, as the next
    h = h ^ (h >> 15) ^ high
    return h * 0x846CA68B


def random_bits(seed, array, count, slot, index):
    """16 bits for each element: slots 2k and 2k + 1 share word k, and take its lower and its upper half."""
    words = random_words(seed, array, count, slot // 2, index)
    return words & 0xFFFF if slot % 2 == 0 else words >> 16


def block_bits(seed, array, count, slot, index):
    """20 bits for each element: its point, flipped by the key of the block and the slot.

    The points' upper 8 bits are all numbers of 8 bits, in an order in which neighbours are far apart; the rest is 0.
    """
    seed, array, count = (np.array([number], np.uint64) for number in (seed, array, count))
    key = mix(mix(mix(mix(seed) ^ array) ^ count) ^ ~((index >> 8) * 4 + slot)) >> 44
    point = (index * 157 & 255) << 12
    return (point ^ key).astype(np.uint32)
