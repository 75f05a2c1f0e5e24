"""One extension per instruction set level: which is chosen, which may be forced, and that all give the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scenario import digests

import downslope as ds
from downslope import _detect
from downslope._extension import choose_level

LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]


def test_the_best_supported_level_is_chosen():
    assert choose_level(None, LEVELS, LEVELS) == "x86-64-v4"
    assert choose_level("", LEVELS, LEVELS[:2]) == "x86-64-v3"
    with pytest.raises(ImportError, match="built for x86-64-v4, and this processor has none of them"):
        choose_level(None, ["x86-64-v4"], [])


def test_a_level_may_be_forced():
    assert choose_level("x86-64-v2", LEVELS, LEVELS) == "x86-64-v2"
    assert choose_level("v3", LEVELS, LEVELS) == "x86-64-v3"
    with pytest.raises(ImportError, match=r"DOWNSLOPE_ISA=avx2: no such level was built; .* x86-64-v2, x86-64-v3$"):
        choose_level("avx2", LEVELS, LEVELS[:2])
    with pytest.raises(ImportError, match=r"DOWNSLOPE_ISA=v4: this processor does not have it; .* x86-64-v2$"):
        choose_level("v4", LEVELS, LEVELS[:1])


def test_an_unknown_level_is_an_error_at_import():
    result = subprocess.run(
        [sys.executable, "-c", "import downslope"],
        env={**os.environ, "DOWNSLOPE_ISA": "mmx"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "ImportError: DOWNSLOPE_ISA=mmx: no such level was built" in result.stderr


OTHERS = [level for level in _detect.supported_levels() if level != ds.isa()]


@pytest.mark.parametrize("level", OTHERS)
def test_the_other_levels_are_exact_too(level):
    """The tests of exactness once more, in a process that is forced to the level."""
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [str(here / name) for name in ("test_rules_exact.py", "test_layouts.py", "test_forced_level.py")],
        env={**os.environ, "DOWNSLOPE_ISA": level, "EXPECTED_LEVEL": level},
        cwd=here.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]


def test_every_feature_leaves_the_same_bits_at_all_levels():
    """With clipping, averages, rows, sums of gradients and everything that rounds, of all dtypes."""
    expected = digests()
    for level in OTHERS:
        result = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "scenario.py")],
            env={**os.environ, "DOWNSLOPE_ISA": level},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == expected, level
