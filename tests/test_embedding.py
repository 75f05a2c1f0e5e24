"""The core knows no Python: a C++ program compiles against the headers alone, and gets the same bits."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rule_cases import assert_same_bits

import downslope as ds
from downslope import reference

HERE = Path(__file__).parent


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs the compiler under the name c++")
def test_a_program_without_python(tmp_path):
    program = tmp_path / "embedding"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        ["c++", *flags, f"-I{HERE.parent / 'cpp' / 'include'}", str(HERE / "embedding.cpp"), "-o", str(program)],
        check=True,
    )
    printed = [float(line) for line in subprocess.run([program], capture_output=True, check=True).stdout.split()]

    def minimized(*params, **settings):
        opt = reference.Optimizer("adam", params, lr=0.01, **settings)
        for _ in range(25):
            opt.step([4 * p * p * p for p in params])
        return opt

    start = np.array([1.5, -0.5, 2.0], np.float32)
    clipped = minimized(start.copy(), np.array([1.5, -0.5]), clip_norm=1.0)
    assert_same_bits(np.array(printed[:3], np.float32), clipped.params[0])
    assert_same_bits(np.array(printed[3:5]), clipped.params[1])
    assert printed[5:7] == [clipped.last_grad_norm, 50]
    coded = minimized(start.copy(), state_dtype="uint8", seed=7)
    assert_same_bits(np.array(printed[7:10], np.float32), coded.params[0])

    def rosenbrock(x):
        a, b = 1 - x[0], x[1] - x[0] * x[0]
        return a * a + 100 * b * b, np.array([-2 * a - 400 * b * x[0], 200 * b])

    for method, options, found in (("l-bfgs", {}, printed[10:13]), ("adam", {"lr": 0.01}, printed[13:])):
        res = ds.minimize(rosenbrock, [-1.2, 1.0], jac=True, method=method, options={"maxiter": 100, **options})
        assert found == [*res.x, res.nfev]
