"""Run again by test_isa in a process that forces a level: that the process really has it."""

import os

import downslope as ds
from downslope import _detect


def test_the_level_in_use():
    assert ds.isa() == os.environ.get("EXPECTED_LEVEL", ds.isa())
    assert ds.isa() in _detect.supported_levels()
