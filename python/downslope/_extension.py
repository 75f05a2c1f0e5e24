"""Chooses, at import, the build of the core for this processor: one extension an instruction set level."""

import importlib
import os

from downslope import _detect


def choose_level(wanted, built, supported):
    """The level to load: the one wanted (``DOWNSLOPE_ISA``), or the best of those that the processor supports."""
    choices = f"this processor and this build allow {', '.join(supported) or 'none'}"
    if wanted:
        name = wanted if wanted in built else f"x86-64-{wanted}"
        if name not in built:
            raise ImportError(f"DOWNSLOPE_ISA={wanted}: no such level was built; {choices}")
        if name not in supported:
            raise ImportError(f"DOWNSLOPE_ISA={wanted}: this processor does not have it; {choices}")
        return name
    if not supported:
        raise ImportError(f"downslope was built for {', '.join(built)}, and this processor has none of them")
    return supported[-1]


level = choose_level(os.environ.get("DOWNSLOPE_ISA"), _detect.built_levels(), _detect.supported_levels())
core = importlib.import_module(f"downslope._core_{level.replace('-', '_')}")
