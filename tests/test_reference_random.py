"""The random bits of the reference: what they are made of, and that they are as good as random for rounding."""

import numpy as np
import pytest

from downslope.reference.random_bits import mix, random_bits

M64 = 2**64 - 1

# For the seed, array, count and slot 0, 0, 1, 0 and 2**64 - 1, 3, 12345, 1.
PINNED = {
    16: (
        ["0xdf6a", "0x426a", "0xe56a", "0xbc6a", "0xf50", "0x63bc"],
        ["0x6ede", "0xf3de", "0x54de", "0xdde", "0x2283", "0xf78d"],
    ),
    20: (
        ["0xdf6a4", "0x426a4", "0xe56a4", "0xbc6a4", "0xf50d", "0x63bcd"],
        ["0x6ede3", "0xf3de3", "0x54de3", "0xdde3", "0x22830", "0xf78de"],
    ),
}
widths = pytest.mark.parametrize("width", PINNED)


def splitmix64(z):
    z = (z + 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def word_of(seed, array, count, slot, index, width):
    """The definition on Python's integers, which never wrap by themselves."""
    block, i = divmod(index, 256)
    key = splitmix64(splitmix64(splitmix64(splitmix64(seed) ^ array) ^ count) ^ (M64 - (4 * block + slot)))
    return (157 * i % 256 * 2 ** (width - 8)) ^ (key >> (64 - width))


def centred(r, width):
    """As fractions of one."""
    return (r + 0.5) / 2**width - 0.5


def excess(counts):
    """Pearson"s chi-square against equal counts, as standard deviations from its mean."""
    freedom = counts.size - 1
    return (((counts - counts.mean()) ** 2).sum() / counts.mean() - freedom) / np.sqrt(2 * freedom)


def correlation(x, y):
    """Of two fields, as standard deviations from none: a field has variance 1/12."""
    return 12 * (x * y).sum() / np.sqrt(x.size)


def test_mix_is_splitmix64():
    """Its first outputs from the seed 0, as everyone publishes them."""
    gamma = 0x9E3779B97F4A7C15
    states = np.array([0, gamma, 2 * gamma & M64], np.uint64)
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@widths
def test_words_are_the_definition(width):
    rng = np.random.default_rng(1)
    index = rng.integers(0, 2**36, 50, dtype=np.uint64)
    for _ in range(20):
        seed, array, count = (int(rng.integers(0, high, dtype=np.uint64)) for high in (M64, 1000, 2**40))
        for slot in range(4):
            expected = [word_of(seed, array, count, slot, i, width) for i in index.tolist()]
            assert random_bits(seed, array, count, slot, index, width).tolist() == expected


@widths
def test_pinned_words(width):
    """A checkpoint goes on as it would have gone on: these numbers never change."""
    index = np.array([0, 1, 2, 255, 256, 2**40], np.uint64)
    for where, pinned in zip(((0, 0, 1, 0), (M64, 3, 12345, 1)), PINNED[width], strict=True):
        assert [hex(r) for r in random_bits(*where, index, width).tolist()] == pinned


@widths
def test_a_block_is_rounded_evenly(width):
    """Of 256 equal numbers as many go up as should, to one: no sum of independent words is as near."""
    r = random_bits(1, 2, 3, 0, np.arange(256 * 100, dtype=np.uint64), width).reshape(100, 256)
    assert (np.sort(r >> (width - 8), axis=1) == np.arange(256)).all()
    for odds in (0.001, 0.1, 0.5, 0.9):
        up = np.count_nonzero(r >= (1 - odds) * 2**width, axis=1)
        assert (np.abs(up - 256 * odds) <= 1).all()


def words_of_blocks(width, *, seed=0, array=0, slot=0, first=0, counts=range(1, 65)):
    """The word of an element of each of 1000 blocks, a row for each step; all others of a block follow from it."""
    index = np.arange(first, first + 1000 * 256, 256, dtype=np.uint64) + 77
    return np.array([random_bits(seed, array, count, slot, index, width) for count in counts])


@widths
def test_the_word_of_an_element_is_uniform(width):
    """Over steps and blocks: each of its bits, and its upper 8 and its lower 8."""
    r = words_of_blocks(width, counts=range(1, 1001))
    for bit in range(width):
        assert abs(((r >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit
    for field in (r >> (width - 8), r & 0xFF):
        assert abs(excess(np.bincount(field.reshape(-1), minlength=256))) < 4


@widths
@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": 2**32},
        {"seed": 2**63},
        {"seed": 1, "array": 1},
        {"array": 1},
        {"slot": 1},
        {"slot": 2},
        {"slot": 3},
        {"first": 256},
        {"first": 2**40},
        {"counts": range(2, 66)},
        {"counts": range(65, 129)},
    ],
    ids=str,
)
def test_blocks_slots_and_steps_have_words_of_their_own(other, width):
    """Bit by bit and as numbers, also those of one block and element in steps one behind the other."""
    r, s = words_of_blocks(width), words_of_blocks(width, **other)
    for bit in range(width):
        assert abs((((r ^ s) >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit
    assert abs(correlation(centred(r, width), centred(s, width))) < 4


@widths
def test_no_element_drifts(width):
    """Over 96 steps the words of an element add up as independent ones would."""
    index = np.arange(256 * 400, dtype=np.uint64)
    drift = sum(centred(random_bits(0, 0, count, 1, index, width), width) for count in range(1, 97))
    assert (drift**2).mean() / (96 / 12) == pytest.approx(1, abs=4 * np.sqrt(2 / 400))
    # The upper 8 bits of a block's words cancel out, so that a mean over blocks varies 2^8 times less.
    assert abs(drift.mean()) < 4 * 2**-8 * np.sqrt(96 / 12 / 400)
