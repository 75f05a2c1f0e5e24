"""One optimizer step against NumPy, PyTorch and a bare C loop, side by side in one process.

Run as ``python benchmarks/step.py``; PyTorch and a C compiler are used if they are there. Results are compared before
anything is timed. The two sides of a ratio take turns, round by round; a ratio is the median over the rounds.
"""

import numpy as np
from side_by_side import Race, bare_loop, cell, problem, torch_or_none, torch_tensors

import downslope as ds


def numpy_adam(params, grads, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam as one writes it in NumPy."""
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    t = 0

    def step():
        nonlocal t
        t += 1
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            p -= lr / (1 - beta1**t) * m[i] / (np.sqrt(v[i] / (1 - beta2**t)) + eps)

    return step


def torch_adam(params, grads):
    """PyTorch's fused Adam on copies: (step, tensors), or None where there is no PyTorch."""
    torch = torch_or_none()
    if torch is None:
        return None
    tensors = torch_tensors(params, grads)
    return torch.optim.Adam(tensors, lr=1e-3, fused=True).step, tensors


def check_equal(sizes):
    """Three steps of each side from one start agree to rounding."""
    params, grads = problem(sizes)
    by_numpy = [p.copy() for p in params]
    step_numpy, by_torch = numpy_adam(by_numpy, grads), torch_adam(params, grads)
    opt = ds.Adam(params)
    for _ in range(3):
        opt.step(grads)
        step_numpy()
        if by_torch:
            by_torch[0]()
    for i, p in enumerate(params):
        np.testing.assert_allclose(p, by_numpy[i], rtol=1e-5, atol=1e-7)
        if by_torch:
            np.testing.assert_allclose(p, by_torch[1][i].detach().numpy(), rtol=1e-5, atol=1e-7)


def adam_rows():
    cases = [
        ("10 elements", [10]),
        ("100,000 elements", [100_000]),
        ("1 million", [1_000_000]),
        ("20 million", [20_000_000]),
        ("1,000 arrays of 100", [100] * 1000),
    ]
    print("Adam, float32                us a step      us a step    times faster than       of the bare")
    print("                         bound    passed      NumPy   torch  NumPy   torch fused    C loop")
    for name, sizes in cases:
        check_equal(sizes)
        params, grads = problem(sizes)
        bound, passed = ds.Adam(params), ds.Adam([p.copy() for p in params])
        one = len(sizes) == 1
        if one:
            bound, passed = ds.Adam(params[0]), ds.Adam(params[0].copy())
        bound.bind(grads[0] if one else grads)
        given = grads[0] if one else grads
        by_torch = torch_adam(params, grads)
        race = Race(
            {
                "bound": bound.step,
                "passed": lambda passed=passed, given=given: passed.step(given),
                "numpy": numpy_adam([p.copy() for p in params], grads),
                "torch": by_torch and by_torch[0],
                "loop": bare_loop(sizes[0]) if one and sizes[0] >= 1_000_000 else None,
            }
        )
        print(
            f"{name:<20}",
            cell(race.us("bound"), 10),
            cell(race.us("passed"), 10),
            cell(race.us("numpy"), 10, ".1f"),
            cell(race.us("torch"), 8, ".1f"),
            cell(race.ratio("numpy", "bound"), 7, ".1f", "x"),
            cell(race.ratio("torch", "bound"), 10, ".2f", "x"),
            cell(race.ratio("loop", "bound"), 12),
        )


def rule_rows(n=1_000_000):
    print(f"\nEvery rule, {n:,} elements, float32: us a step, and times faster than the NumPy reference (same bits)")
    for name, cls in ds.OPTIMIZERS.items():
        (p,), (g,) = problem([n])
        q = p.copy()
        opt = cls(p)
        settings = dict(opt.param_groups[0])
        del settings["params"]
        ref = ds.reference.Optimizer(opt.rule, [q], **settings)
        for _ in range(2):
            opt.step(g)
            ref.step([g])
        assert p.tobytes() == q.tobytes(), name
        opt.bind(g)
        race = Race({"fused": opt.step, "reference": lambda ref=ref, g=g: ref.step([g])})
        print(f"{cls.__name__:<12} {race.us('fused'):10.1f} {race.ratio('reference', 'fused'):8.1f}x")


if __name__ == "__main__":
    ds.show_config()
    print()
    adam_rows()
    rule_rows()
