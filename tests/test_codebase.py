"""The health of the code: layers, lists that must agree, documentation that runs."""

import ast
import doctest
import importlib
import inspect
import math
import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import downslope as ds
from downslope._extension import core
from downslope.rules import settings

ROOT = Path(__file__).parent.parent
INCLUDE = ROOT / "cpp" / "include" / "downslope"
PYTHON = ROOT / "python" / "downslope"
HEADERS = sorted(INCLUDE.rglob("*.hpp"))
MODULES = sorted(PYTHON.rglob("*.py"))

# Which folders of the C++ core a folder may include; "" is the ground floor.
MAY_INCLUDE = {
    "": {""},
    "rules": {"", "rules"},
    "step": {"", "rules", "step"},
    "curvature": {"", "curvature"},
    "preconditioners": {"", "curvature", "preconditioners"},
    "minimize": {"", "rules", "step", "curvature", "minimize"},
}


def path_id(path):
    return str(path.relative_to(ROOT))


def folder(header):
    relative = header.relative_to(INCLUDE)
    return relative.parts[0] if len(relative.parts) > 1 else ""


@pytest.mark.parametrize("header", HEADERS, ids=path_id)
def test_the_direction_of_includes(header):
    for name in re.findall(r'#include "(.*)"', header.read_text()):
        target = (header.parent / name).resolve()
        assert target in HEADERS, f"{name} is not a header of the core"
        assert folder(target) in MAY_INCLUDE[folder(header)], name
    outside = re.findall(r"#include <(.*)>", header.read_text())
    if not uses_eigen(header):
        assert not [name for name in outside if name.startswith("Eigen")]
    assert not [name for name in outside if "ython" in name or "pybind" in name]


def test_only_parallel_names_openmp():
    sources = [*HEADERS, *(ROOT / "cpp" / "bindings").glob("*")]
    names = re.compile(r"omp\.h|#pragma omp|_OPENMP|omp_")
    assert [path_id(path) for path in sources if names.search(path.read_text())] == [path_id(INCLUDE / "parallel.hpp")]


def test_the_core_has_one_loop_around_rules():
    """Codecs, norms and sums go over elements, too; a rule is applied in one place, in a loop that is vectorized."""
    called = re.compile(r"^(?!.*(?://|decltype)).*::(?:template )?update(?:<.*>)?\(", re.MULTILINE)
    sources = [*HEADERS, *(ROOT / "cpp" / "bindings").glob("*")]
    calls = {path_id(path): len(found) for path in sources if (found := called.findall(path.read_text()))}
    fused_step = INCLUDE / "step" / "fused_step.hpp"
    assert calls == {path_id(fused_step): 1}
    loop = re.compile(r"^( *)DOWNSLOPE_SIMD\n\1for \([^\n]*\) \{\n(.*?)^\1\}", re.MULTILINE | re.DOTALL)
    loops = loop.findall(fused_step.read_text())
    assert sum(len(called.findall(body)) for _, body in loops) == 1


def uses_eigen(header):
    return folder(header) in ("curvature", "minimize", "preconditioners")


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs the compiler under the name c++")
@pytest.mark.parametrize("header", HEADERS, ids=path_id)
def test_each_header_stands_alone(header):
    eigen = [Path(sysconfig.get_path("purelib")) / "cmeel.prefix" / "include" / "eigen3", Path("/usr/include/eigen3")]
    found = [path for path in eigen if path.exists()]
    if uses_eigen(header) and not found:
        pytest.skip("needs Eigen")
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wfatal-errors", "-x", "c++", "-"]
    command += [f"-isystem{path}" for path in found]
    # The error spares the compiler what it leaves for the end: to instantiate Eigen's templates, as the build does.
    source = f'#include "{header}"\nstatic_assert(false, "as far as it was to come");\n'
    result = subprocess.run(command, input=source, capture_output=True, text=True)
    (error,) = re.findall("error: .*", result.stderr)
    assert "as far as it was to come" in error, result.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs the compiler under the name c++")
@pytest.mark.parametrize(
    "old, new",
    [
        ("", ""),  # the rule as it is compiles
        ('"lr"', "1.0"),
        ('"lr"', '"rate"'),
        ('{"eps", &Hyper::eps, non_negative}', ""),
        ("T(1 - h.beta1)", "1 - h.beta1"),  # a coefficient that is not cast
        ("T(h.eps)", "T(h.eps), T(h.eps)"),
        ("static void update", "static T update"),
        ("struct Adamax : Rule", "struct Adamax"),
    ],
)
def test_a_rule_that_breaks_the_contract_does_not_compile(old, new):
    adamax = (INCLUDE / "rules" / "adamax.hpp").read_text().replace('"../rule.hpp"', f'"{INCLUDE / "rule.hpp"}"')
    assert old in adamax
    source = adamax.replace(old, new) if old else adamax
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Werror=narrowing", "-x", "c++", "-"]
    use = "static_assert(downslope::is_rule<downslope::Adamax>()); auto prepare = &downslope::Adamax::prepare<float>;"
    check = f"{source}\n{use}\n"
    result = subprocess.run(command, input=check, capture_output=True, text=True)
    assert (result.returncode == 0) == (old == new), result.stderr


def imports(path):
    """The modules that a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=path_id)
def test_the_direction_of_imports(path):
    inside = path.relative_to(PYTHON).parts
    allowed_outside = {"numpy"} | set(sys.stdlib_module_names)
    if inside[0] == "lab":
        allowed_outside |= {"tqdm"} | ({"matplotlib"} if inside[-1].startswith("plot") else set())
    if inside == ("rules", "tree_file.py"):
        allowed_outside |= {"safetensors"}
    if inside == ("minimize", "progress.py"):
        allowed_outside |= {"tqdm"}
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package != "downslope":
            assert package in allowed_outside, name
        elif inside[0] == "lab":
            assert rest == "" or rest.startswith("lab"), f"{name}: the lab uses the public API alone"
        elif inside[0] == "reference":
            assert rest.startswith("reference"), f"{name}: the reference stands on NumPy alone"
        else:
            assert not rest.startswith("lab"), name
            assert not rest.startswith("reference") or inside == ("__init__.py",), name


def test_every_rule_has_a_class_and_a_reference():
    rules = core.rule_names()
    assert set(rules) == {cls.rule for cls in ds.OPTIMIZERS.values()} == set(ds.reference.RULES)
    for name, cls in ds.OPTIMIZERS.items():
        assert getattr(ds, cls.__name__) is cls and cls.__name__ in ds.__all__ and name == cls.__name__.lower()
        assert cls.source
        header = name if name != "adamw" else "adam"
        assert (INCLUDE / "rules" / f"{header}.hpp").exists() and (PYTHON / "rules" / f"{name}.py").exists()


def defaults_in_core(rows):
    """Defaults by public name, from rows of the core's tables; betas is one name for two rows, and NaN is None."""
    defaults = {}
    for row, default, kind, *_ in rows:
        name, bracket, _ = row.partition("[")
        value = bool(default) if kind == "flag" else None if math.isnan(default) else default
        defaults[name] = (*defaults.get(name, ()), value) if bracket else value
    return defaults


@pytest.mark.parametrize("cls", ds.OPTIMIZERS.values(), ids=lambda cls: cls.__name__)
def test_python_defaults_are_those_of_the_core(cls):
    """AdamW alone has defaults of its own: it is Adam with another decay."""
    own = {"weight_decay": 1e-2, "decoupled_weight_decay": True} if cls is ds.AdamW else {}
    options = defaults_in_core(core.options_table())
    expected = defaults_in_core(core.rule_table(cls.rule)) | options | own
    written = {name: p.default for name, p in inspect.signature(cls.__init__).parameters.items()}
    for name in ("self", "params", "options"):
        del written[name]
    assert written == {name: expected[name] for name in written} and expected.keys() - written.keys() <= options.keys()
    opt = cls(np.zeros(1))
    group = dict(opt.param_groups[0])
    del group["params"]
    assert group == expected
    assert {name: getattr(opt, name) for name in settings.DEFAULTS} == settings.DEFAULTS
    # To users, the signature shows everything: the rule's own, what a group may set, and what holds for all groups.
    shown = {name: p.default for name, p in inspect.signature(cls).parameters.items() if name != "params"}
    assert shown == expected | settings.DEFAULTS
    assert list(shown) == [*written, *(name for name in [*options, *settings.DEFAULTS] if name not in written)]


@pytest.mark.parametrize("rule", ds.reference.RULES)
def test_reference_defaults_are_those_of_the_core(rule):
    assert ds.reference.RULES[rule].__kwdefaults__ == defaults_in_core(core.rule_table(rule))


def test_the_options_of_the_reference_are_those_of_the_core():
    options = ds.reference.Optimizer.__init__.__kwdefaults__
    assert options == defaults_in_core(core.options_table()) | settings.DEFAULTS


def modules():
    for found in pkgutil.walk_packages(ds.__path__, "downslope."):
        if "._core_" not in found.name and not found.name.endswith("_detect"):
            yield found.name


@pytest.mark.parametrize("name", ["downslope", *modules()])
def test_the_examples_in_docstrings_run(name):
    before = ds.get_num_threads()
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    ds.set_num_threads(before)
    assert failed == 0


@pytest.mark.parametrize("name", [name for name in ds.__all__ if not name.startswith("_")])
def test_public_names_are_documented(name):
    thing = getattr(ds, name)
    if callable(thing):
        doc = inspect.getdoc(thing)
        assert doc and ("Examples" in doc or thing is ds.Optimizer)


def test_the_example_in_the_readme_runs():
    """The first complete one: it recovers the parameters that its data was made with."""
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "rng" in c]
    names = {}
    exec(code, names)
    assert np.abs(names["p"] - [3, 1.3]).max() < 0.05
