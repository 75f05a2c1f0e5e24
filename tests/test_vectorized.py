"""The kernels are vectorized at every level: read off the built code, in the loop of each rule's own symbol."""

import functools
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
# Work on single elements: scalar floating point, general registers, lanes taken out or put in. With add, sub, cmp, lea
# and the like, a loop counts and jumps and combines masks of whole vectors; a broadcast of a constant is none either.
SCALAR = re.compile(
    r"v?(add|sub|mul|div|sqrt|max|min|mov|u?comi|cvt\w+2)s[sd]\s|v?cvtt?s[sd]2|v?p(insr|extr)\w\s"
    r"|(mov[bwl]?|mov[sz][bwl][wlq]|(sar|sal|shl|shr|imul)[bwlq]?|(cmov|set)\w+)\s"
)
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
# The other passes over elements: for each of their loops, what it must do.
PASSES = {
    "sum_of_squares<": [{"mulpd", "addpd"}],
    "all_finite<float>": [{r"cmp\w*ps"}],
    "all_finite<double>": [{r"cmp\w*pd"}],
    "advance_average<float>": [{"subps", "mulps", "addps"}],
    "advance_average<double>": [{"subpd", "mulpd", "addpd"}],
    "for_each_run<downslope::B?Float16, downslope::decode_as<downslope::B?Float16, float>": [{"pslld"}],
    "for_each_run<downslope::B?Float16, downslope::encode_as<downslope::B?Float16, downslope::encode<float>": [
        {"psrld"}
    ],
}
# Passes over a block of 8-bit state, which has a known length, so that its loops may be unrolled as a whole.
BLOCK_PASSES = "BlockState<.*>::close_slots<0ul"

pytestmark = [
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="the instructions looked for are x86-64's"
    ),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump, which comes with GCC's binutils"),
]


@functools.cache
def functions(level):
    """The instructions of every function: its name -> list of (address, text)."""
    module = f"_core_{level.replace('-', '_')}"
    (library,) = [p for folder in downslope.__path__ for p in Path(folder).glob(f"{module}.*")] or [Path(core.__file__)]
    text = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for block in text.split("\n\n"):
        head = re.match(r"[0-9a-f]+ <(.*downslope::.*)>:\n", block)
        if head:
            lines = re.findall(r"^ *([0-9a-f]+):\t(.*)$", block, re.MULTILINE)
            found[head[1]] = [(int(address, 16), instruction) for address, instruction in lines]
    return found


def kernels(level):
    """The instructions of each element loop: (rule, its options, dtype, general, state) -> list of (address, text)."""
    kernel = re.compile(
        r"void downslope::update_elements<downslope::(\w+)(<[^>]*>)?, (float|double), (true|false), downslope::(\w+)"
    )
    return {head.groups(): lines for name, lines in functions(level).items() if (head := kernel.match(name))}


def loops(instructions):
    """The bodies of the innermost loops: from the target of a backward jump to the jump."""
    spans = []
    for address, text in instructions:
        jump = re.match(r"j\w+ +([0-9a-f]+) ", text)
        if jump and instructions[0][0] <= int(jump[1], 16) < address:
            spans.append((int(jump[1], 16), address))
    innermost = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [[text for address, text in instructions if low <= address <= high] for low, high in innermost]


def is_vectorized(body, operations, register):
    """Whether the loop does all operations on full registers, and none on single elements."""
    packed = {op for op in operations if any(re.match(rf"v?{op}\s.*%{register}", text) for text in body)}
    return packed == operations and not any(SCALAR.match(text) and not is_invariant(text, body) for text in body)


def is_invariant(text, body):
    """Whether this compares what the loop does not change: an option, to jump past what it turns off."""
    compared = re.match(r"v?ucomis[sd] +%xmm(\d+),%xmm(\d+)$", text)
    written = compared and re.compile(rf"%[xyz]mm({'|'.join(compared.groups())})({{.*)?$")
    return compared and not any(written.search(other) for other in body if other != text)


def has_vectorized(instructions, operations, register):
    return any(is_vectorized(body, operations, register) for body in loops(instructions))


@pytest.mark.parametrize("level", [level for level in _detect.built_levels() if level in REGISTER])
def test_every_kernel_is_vectorized(level):
    found = kernels(level)
    (listed,) = re.findall(r"RuleList<((?:[^<>]|<[^<>]*>)*)>;", RULES.read_text())
    variants = re.sub(r"<[^<>]*>", "", listed).count(",") + 1
    assert len(found) == variants * 2 * 2 * 3  # dtypes, plain and general, how state is stored
    assert set(OPERATIONS) <= {rule for rule, *_ in found}
    scalar = []
    for key, instructions in found.items():
        rule, _, dtype, *_ = key
        operations = {f"{op}p{SUFFIX[dtype]}" for op in ARITHMETIC | OPERATIONS.get(rule, set())}
        if not has_vectorized(instructions, operations, REGISTER[level]):
            scalar.append(key)
    assert not scalar


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("level", [level for level in _detect.built_levels() if level in REGISTER])
def test_the_other_passes_are_vectorized(level, name):
    found = [(key, lines) for key, lines in functions(level).items() if re.search(f"downslope::{name}", key)]
    assert found
    scalar = [
        (key, operations)
        for key, instructions in found
        for operations in PASSES[name]
        if not has_vectorized(instructions, operations, REGISTER[level])
    ]
    assert not scalar


@pytest.mark.parametrize("level", [level for level in _detect.built_levels() if level in REGISTER])
def test_blocks_are_encoded_by_whole_vectors(level):
    found = {key: lines for key, lines in functions(level).items() if re.search(f"downslope::{BLOCK_PASSES}", key)}
    assert found
    for key, lines in found.items():
        for op in ("pmaxud", "mulps", "psrad"):
            assert any(re.match(rf"v?{op}\s.*%{REGISTER[level]}", text) for _, text in lines), (key, op)


@pytest.mark.skipif("x86-64-v4" not in _detect.built_levels(), reason="only this level decodes codes in groups")
def test_groups_of_codes_are_decoded_in_the_loop_of_the_rule_which_fetches_ahead():
    widening = re.compile(r"vpmov[sz]xbd +[^%]*\(.*,%zmm")
    seen = set()
    for (rule, _, dtype, _, state), instructions in kernels("x86-64-v4").items():
        grouped = [body for body in loops(instructions) if any(widening.match(text) for text in body)]
        if state == "BlockState" and dtype == "float" and grouped:
            seen.add(rule)
            # Not all of what the rule does: the part that an option turns off may stand outside.
            assert all(is_vectorized(body, {"mulps"}, "zmm") for body in grouped), rule
            # GCC takes a loop or a function of nothing but prefetches for one without effect.
            assert all(sum(text.startswith("prefetch") for text in body) == 2 for body in grouped), rule
    assert seen >= set(OPERATIONS)


def test_the_check_sees_a_scalar_loop():
    scalar = [(0, "vsqrtss %xmm1,%xmm1,%xmm0"), (4, "vdivss %xmm0,%xmm2,%xmm0"), (8, "jne    0 <f>")]
    packed = [(0, "vsqrtps %ymm1,%ymm0"), (4, "vdivps %ymm0,%ymm2,%ymm0"), (8, "jne    0 <f>")]
    for instructions, expected in ((scalar, False), (packed, True)):
        (body,) = loops(instructions)
        assert is_vectorized(body, {"sqrtps", "divps"}, "ymm") is expected
    (body,) = loops(packed)
    assert not is_vectorized(body, {"sqrtps", "divps"}, "zmm")
    assert not is_vectorized(body, {"sqrtpd", "divpd"}, "ymm")


def test_a_comparison_of_what_stays_is_no_work_on_elements():
    body = ["vucomiss %xmm2,%xmm13", "jp     0 <f>", "vmulps (%rax),%zmm1,%zmm3", "jne    0 <f>"]
    assert is_vectorized(body, {"mulps"}, "zmm")
    for change in ("vaddps %zmm3,%zmm3,%zmm13", "vmulps %zmm3,%zmm3,%zmm2{%k1}"):
        assert not is_vectorized([*body, change], {"mulps"}, "zmm")


@pytest.mark.parametrize(
    "work",
    [
        "cvtsd2ss %xmm1,%xmm0",
        "vcvttss2si %xmm0,%eax",
        "vucomiss %xmm1,%xmm0",
        "sar    $0x14,%eax",
        "cmovs  %edx,%eax",
        "mov    %al,(%rcx,%rdx,1)",
        "movzbl (%r12,%rdx,1),%eax",
        "vpextrd $0x1,%xmm0,%eax",
        "pinsrw $0x2,%eax,%xmm0",
    ],
)
def test_the_check_sees_work_on_single_elements(work):
    body = ["movups (%rax),%ymm1", "vpsrad $0x14,%ymm1,%ymm0", "add    $0x20,%rax", "cmp    %rax,%rdx", "jne    0 <f>"]
    assert is_vectorized(body, {"psrad"}, "ymm")
    assert not is_vectorized([*body, work], {"psrad"}, "ymm")
