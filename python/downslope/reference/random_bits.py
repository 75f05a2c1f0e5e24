"""Random bits without a state: a function of the seed and of what they are for.

Whatever else is drawn, before or in parallel, the bits for one element of one array at one of its steps are the same.
They come of two hashes: a strong one of 64 bits, of what all elements of an array share, and a cheap one of 32 bits, of
two multiplications, for each element. That is good enough to round with, and for nothing else: the lowest bits of a
word depend on little more than the lowest bits of the element's number. They weigh least in what is rounded.
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


def random_bits(width, seed, array, count, slot, index):
    """Slots 2k and 2k + 1 share word k: the even one takes its lowest `width` bits, the odd one its highest."""
    words = random_words(seed, array, count, slot // 2, index)
    return words & ((1 << width) - 1) if slot % 2 == 0 else words >> (32 - width)
