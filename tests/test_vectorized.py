"""The kernels are vectorized at every level: read off the built code, in the loop of each rule's own symbol."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import downslope
from downslope import _detect
from downslope._extension import core

RULES = Path(__file__).parent.parent / "cpp" / "include" / "downslope" / "rules" / "rules.hpp"
REGISTER = {"x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}
SCALAR = "add|sub|mul|div|sqrt|max|min|mov"  # a broadcast or a comparison of a constant is no work on elements
SUFFIX = {"float": "s", "double": "d"}
# What the loop of every rule must do with whole vectors, and, beyond that, those of some.
ARITHMETIC = {"mul"}
OPERATIONS = {
    "Adagrad": {"sqrt", "div"},
    "Adadelta": {"sqrt", "div"},
    "RMSprop": {"sqrt", "div"},
    "Adam": {"sqrt", "div"},
    "Adamax": {"div"},
    "NAdam": {"sqrt", "div"},
    "AdaBelief": {"sqrt", "div"},
    "RAdam": {"sqrt", "div"},
}

pytestmark = [
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="the instructions looked for are x86-64's"
    ),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump, which comes with GCC's binutils"),
]


def kernels(level):
    """The instructions of each element loop: (rule, its options, dtype, general, state) -> list of (address, text)."""
    module = f"_core_{level.replace('-', '_')}"
    (library,) = [p for folder in downslope.__path__ for p in Path(folder).glob(f"{module}.*")] or [Path(core.__file__)]
    text = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for block in text.split("\n\n"):
        head = re.match(
            r"[0-9a-f]+ <void downslope::update_elements<downslope::(\w+)(<[^>]*>)?, (float|double), (true|false), "
            r"downslope::(\w+)",
            block,
        )
        if head:
            lines = re.findall(r"^ *([0-9a-f]+):\t(.*)$", block, re.MULTILINE)
            found[head.groups()] = [(int(address, 16), instruction) for address, instruction in lines]
    return found


def loops(instructions):
    """The bodies of the innermost loops: from the target of a backward jump to the jump."""
    spans = []
    for address, text in instructions:
        jump = re.match(r"j\w+ +([0-9a-f]+) ", text)
        if jump and instructions[0][0] <= int(jump[1], 16) < address:
            spans.append((int(jump[1], 16), address))
    innermost = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [[text for address, text in instructions if low <= address <= high] for low, high in innermost]


def is_vectorized(body, operations, dtype, register):
    """Whether the loop does all operations on full registers, and none on single elements."""
    suffix = SUFFIX[dtype]
    packed = {op for op in operations if any(re.match(rf"v?{op}p{suffix}\s.*%{register}", text) for text in body)}
    return packed == operations and not any(re.match(rf"v?({SCALAR})s{suffix}\s", text) for text in body)


@pytest.mark.parametrize("level", [level for level in _detect.built_levels() if level in REGISTER])
def test_every_kernel_is_vectorized(level):
    found = kernels(level)
    (listed,) = re.findall(r"RuleList<((?:[^<>]|<[^<>]*>)*)>;", RULES.read_text())
    variants = re.sub(r"<[^<>]*>", "", listed).count(",") + 1
    assert len(found) == variants * 2 * 2 * 3  # dtypes, plain and general, how state is stored
    assert set(OPERATIONS) <= {rule for rule, *_ in found}
    scalar = [
        key
        for key, instructions in found.items()
        if not any(
            is_vectorized(body, ARITHMETIC | OPERATIONS.get(key[0], set()), key[2], REGISTER[level])
            for body in loops(instructions)
        )
    ]
    assert not scalar


def test_the_check_sees_a_scalar_loop():
    scalar = [(0, "vsqrtss %xmm1,%xmm1,%xmm0"), (4, "vdivss %xmm0,%xmm2,%xmm0"), (8, "jne    0 <f>")]
    packed = [(0, "vsqrtps %ymm1,%ymm0"), (4, "vdivps %ymm0,%ymm2,%ymm0"), (8, "jne    0 <f>")]
    for instructions, expected in ((scalar, False), (packed, True)):
        (body,) = loops(instructions)
        assert is_vectorized(body, {"sqrt", "div"}, "float", "ymm") is expected
    (body,) = loops(packed)
    assert not is_vectorized(body, {"sqrt", "div"}, "float", "zmm")
    assert not is_vectorized(body, {"sqrt", "div"}, "double", "ymm")
