"""The random bits of the reference: what they are made of, and that they are as good as random for rounding."""

import numpy as np
import pytest

from downslope.reference.random_bits import block_bits, mix, random_bits, random_words

M64 = 2**64 - 1

PINNED = [
    ["0x97e2d1d1", "0x984903a8", "0x25977b6b", "0xc31cc03b", "0x602fa6e3", "0xc5df35b5", "0x89231481", "0x31a9ebb2"],
    ["0xc7d9d8fc", "0xe4fa1c1a", "0x9ea37141", "0xe39a9851", "0xad7fc915", "0x72f512af", "0x93610d33", "0x356f337c"],
]
BLOCK_PINNED = ["0xdf6a4", "0x426a4", "0xe56a4", "0xbc6a4", "0xf50d", "0x63bcd"]


def splitmix64(z):
    z = (z + 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def word_of(seed, array, count, word, index):
    """The definition on Python"s integers, which never wrap by themselves."""
    key = splitmix64(splitmix64(splitmix64(splitmix64(seed) ^ array) ^ count) ^ (2 * (index >> 32) + word))
    h = ((index + key) * 0x7FEB352D) % 2**32
    h = (h ^ (h >> 15)) ^ (key >> 32)
    return (h * 0x846CA68B) % 2**32


def block_word_of(seed, array, count, slot, index):
    block, i = divmod(index, 256)
    key = splitmix64(splitmix64(splitmix64(splitmix64(seed) ^ array) ^ count) ^ (M64 - (4 * block + slot)))
    return (157 * i % 256 * 2**12) ^ (key >> 44)


def words(run, keys, *, seed=0, array=0, word=0):
    """A row for each of the steps 1, 2, ..., keys: the words of the elements 0, ..., run - 1."""
    index = np.arange(run, dtype=np.uint64)
    return np.array([random_words(seed, array, count, word, index) for count in range(1, keys + 1)])


def centred(r, width):
    """As fractions of one."""
    return (r + 0.5) / 2**width - 0.5


def fields(r):
    """The two fields that are cut from a word."""
    return {"low 16": centred(r & 0xFFFF, 16), "high 16": centred(r >> 16, 16)}


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


def test_words_are_the_definition():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 2**36, 50, dtype=np.uint64)
    for _ in range(20):
        seed, array, count = (int(rng.integers(0, high, dtype=np.uint64)) for high in (M64, 1000, 2**40))
        for word in (0, 1):
            expected = [word_of(seed, array, count, word, i) for i in index.tolist()]
            assert random_words(seed, array, count, word, index).tolist() == expected


def test_pinned_words():
    """A checkpoint goes on as it would have gone on: these numbers never change."""
    index = np.array([0, 1, 2, 255, 256, 2**32 - 1, 2**32, 2**32 + 1], np.uint64)
    assert [hex(r) for r in random_words(0, 0, 1, 0, index).tolist()] == PINNED[0]
    assert [hex(r) for r in random_words(2**64 - 1, 3, 12345, 1, index).tolist()] == PINNED[1]


def test_fields_of_a_word():
    """Two slots share a word: the even one has its lowest bits, the odd one its highest."""
    index = np.arange(1000, dtype=np.uint64)
    for slot in range(4):
        r = random_words(5, 6, 7, slot // 2, index)
        expected = r % 2**16 if slot % 2 == 0 else r // 2**16
        assert (random_bits(5, 6, 7, slot, index) == expected).all()


@pytest.mark.parametrize("run", [256, 65536])
@pytest.mark.parametrize("word", [0, 1])
def test_every_bit_is_set_half_of_the_time(run, word):
    r = words(run, 2**20 // run, word=word).reshape(-1)
    for bit in range(32):
        assert abs(((r >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit


@pytest.mark.parametrize("run", [256, 4096, 65536])
def test_fields_are_uniform(run):
    """Over arrays of several sizes, in 2^8 and in 2^16 classes."""
    for name, x in fields(words(run, 2**20 // run)).items():
        for classes in (2**8, 2**16):
            counts = np.bincount(((x + 0.5) * classes).astype(int).reshape(-1), minlength=classes)
            assert abs(excess(counts)) < 4.5, (name, classes)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 6, 7, 8, 16, 64, 255])
def test_neighbours_round_independently(lag):
    """Uncorrelated, and so are their roundings, up or down, whatever the odds.

    No more than that is needed, or holds: low fields three elements apart are uncorrelated but not independent.
    """
    for name, x in fields(words(1024, 1024)).items():
        assert abs(correlation(x[:, :-lag], x[:, lag:])) < 4, name
        for odds in (1 / 2, 1 / 4, 1 / 8):
            up = x >= 0.5 - odds
            both = np.count_nonzero(up[:, :-lag] & up[:, lag:])
            pairs = x[:, lag:].size
            assert abs(both - pairs * odds**2) < 5 * np.sqrt(pairs * odds**2), (name, odds)


BASE = {"seed": 0, "array": 0, "word": 0}


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"seed": 2**32}, {"seed": 2**63}, {"array": 1}, {"array": 2}, {"word": 1}, {"seed": 1, "array": 1}],
    ids=str,
)
def test_seeds_arrays_and_words_have_bits_of_their_own(other):
    """No field goes with the field of the same name, and no bit with the same bit, the weak lowest ones excepted."""
    r, s = words(4096, 64), words(4096, 64, **{**BASE, **other})
    for name, x in fields(r).items():
        assert abs(correlation(x, fields(s)[name])) < 4, name
    differing = r ^ s
    for bit in range(8, 32):
        assert abs(((differing >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit


@pytest.mark.parametrize("distance", [1, 2, 3, 16, 32])
def test_steps_have_bits_of_their_own(distance):
    """An element is rounded afresh at each step; else the same elements would be pushed the same way for ever."""
    for name, x in fields(words(4096, 96)).items():
        assert abs(correlation(x[:-distance], x[distance:])) < 4, name
        drift = x.sum(axis=0)  # of each element over 96 steps
        assert abs((drift**2).mean() / (96 / 12) - 1) < 4 * np.sqrt(2 / 4096), name


def test_the_two_slots_of_a_word_round_independently():
    x = fields(words(4096, 256))
    low, high = x["low 16"], x["high 16"]
    assert abs(correlation(low, high)) < 4
    pairs = (((low + 0.5) * 64).astype(int) * 64 + ((high + 0.5) * 64).astype(int)).reshape(-1)
    assert abs(excess(np.bincount(pairs, minlength=4096))) < 4
    assert abs(excess(np.bincount((pairs // 64).reshape(-1), minlength=64))) < 4


def test_elements_beyond_32_bits_are_new_ones():
    """Arrays of more than 2^32 elements don"t repeat themselves."""
    index = np.arange(2**18, dtype=np.uint64)
    near, far = random_words(0, 0, 1, 0, index), random_words(0, 0, 1, 0, index + 2**32)
    for name, x in fields(near).items():
        assert abs(correlation(x, fields(far)[name])) < 4, name
    assert (near != random_words(0, 0, 1, 1, index)).any()
    assert (far != random_words(0, 0, 1, 1, index + 2**32)).any()


# ---- the words of 8-bit codes ----


def test_block_words_are_the_definition():
    rng = np.random.default_rng(1)
    index = rng.integers(0, 2**36, 50, dtype=np.uint64)
    for _ in range(20):
        seed, array, count = (int(rng.integers(0, high, dtype=np.uint64)) for high in (M64, 1000, 2**40))
        for slot in range(3):
            expected = [block_word_of(seed, array, count, slot, i) for i in index.tolist()]
            assert block_bits(seed, array, count, slot, index).tolist() == expected


def test_pinned_block_words():
    index = np.array([0, 1, 2, 255, 256, 2**40], np.uint64)
    assert [hex(r) for r in block_bits(0, 0, 1, 0, index).tolist()] == BLOCK_PINNED


def test_a_block_is_rounded_evenly():
    """Of 256 equal numbers as many go up as should, to one: no sum of independent words is as near."""
    r = block_bits(1, 2, 3, 0, np.arange(256 * 100, dtype=np.uint64)).reshape(100, 256)
    assert (np.sort(r >> 12, axis=1) == np.arange(256)).all()
    for odds in (0.001, 0.1, 0.5, 0.9):
        up = np.count_nonzero(r >= (1 - odds) * 2**20, axis=1)
        assert (np.abs(up - 256 * odds) <= 1).all()


def keys_of_blocks(*, seed=0, array=0, slot=0, first=0, counts=range(1, 65)):
    """The word of an element of each of 1000 blocks, a row for each step; all others of a block follow from it."""
    index = np.arange(first, first + 1000 * 256, 256, dtype=np.uint64) + 77
    return np.array([block_bits(seed, array, count, slot, index) for count in counts])


def test_the_word_of_an_element_is_uniform():
    """Over steps and blocks: each of its 20 bits, and its upper 8 and its lower 8."""
    r = keys_of_blocks(counts=range(1, 1001))
    for bit in range(20):
        assert abs(((r >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit
    for field in (r >> 12, r & 0xFF):
        assert abs(excess(np.bincount(field.reshape(-1), minlength=256))) < 4


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": 2**63},
        {"array": 1},
        {"slot": 1},
        {"slot": 2},
        {"first": 256},
        {"first": 2**40},
        {"counts": range(2, 66)},
        {"counts": range(65, 129)},
    ],
    ids=str,
)
def test_blocks_slots_and_steps_have_words_of_their_own(other):
    """Bit by bit and as numbers, also those of one block and element in steps one behind the other."""
    r, s = keys_of_blocks(), keys_of_blocks(**other)
    for bit in range(20):
        assert abs((((r ^ s) >> bit) & 1).sum() - r.size / 2) < 4 * np.sqrt(r.size) / 2, bit
    assert abs(correlation(centred(r, 20), centred(s, 20))) < 4


def test_no_element_drifts():
    """Over 96 steps the words of an element add up as independent ones would."""
    index = np.arange(256 * 400, dtype=np.uint64)
    drift = sum(centred(block_bits(0, 0, count, 1, index), 20) for count in range(1, 97))
    assert (drift**2).mean() / (96 / 12) == pytest.approx(1, abs=4 * np.sqrt(2 / 400))
    # The upper 8 bits of a block's words cancel out, so that a mean over blocks varies 2^8 times less.
    assert abs(drift.mean()) < 4 * 2**-8 * np.sqrt(96 / 12 / 400)
