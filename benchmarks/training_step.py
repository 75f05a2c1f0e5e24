"""The whole training step against its limits and its peers, side by side in one process.

Run as ``python benchmarks/training_step.py``, or with the names of some parts: state, training, cache, halves, calls,
growth, rows. PyTorch, DeepSpeed and a C compiler are used if they are there. Results are compared before anything is
timed. The two sides of a ratio take turns, round by round; a ratio is the median over the rounds. The limit is a bare C
loop that moves the same bytes with next to no arithmetic: "of the limit" is its time over ours, 1.00 at best.
"""

import argparse
import functools
import itertools

import numpy as np
import side_by_side
from side_by_side import Race, bare_loop, cell, problem, torch_or_none, torch_tensors

import downslope as ds

LR, BETA1, BETA2, EPS, DECAY = 1e-3, 0.9, 0.999, 1e-8, 1e-2
EMA_DECAY = 0.999


def bytes_a_parameter(opt):
    """What the arrays in the state take, per element of the parameter."""
    slots = [array for name, array in opt.state.items() if name != "step"]
    return sum(array.nbytes for array in slots) / opt.params.size


# ---- state of 32, 16 and 8 bits ----


def check_state(state_dtype, n=100_000, steps=3):
    """The same bits as the reference in NumPy."""
    (p,), (g,) = problem([n])
    q = p.copy()
    opt = ds.Adam(p, state_dtype=state_dtype)
    reference = ds.reference.Optimizer("adam", [q], state_dtype=state_dtype)
    for _ in range(steps):
        opt.step(g)
        reference.step([g])
    assert p.tobytes() == q.tobytes(), state_dtype


def state_rows(n=20_000_000):
    print(f"Adam, {n:,} float32 elements, by the state's dtype (same bits as the reference)\n")
    print("state       bytes a parameter     ms a step   times faster      limit, ms    of the limit")
    print("               measured                      than float32                               ")
    opts, steps = {}, {}
    for state_dtype, dtype in ((None, np.float32), ("bfloat16", np.uint16), ("uint8", np.uint8)):
        check_state(state_dtype)
        (p,), (g,) = problem([n])
        name = state_dtype or "float32"
        opts[name] = ds.Adam(p, state_dtype=state_dtype)
        opts[name].bind(g)
        steps[name] = opts[name].step
        steps[f"limit of {name}"] = bare_loop(n, f"streams{dtype().itemsize}", dtype)
    race = Race(steps)
    for name, opt in opts.items():
        print(
            f"{name:<10}",
            cell(bytes_a_parameter(opt), 18),
            cell(race.us(name) / 1e3, 13),
            cell(race.ratio("float32", name), 14),
            cell(race.us(f"limit of {name}") / 1e3, 14),
            cell(race.ratio(f"limit of {name}", name), 15),
        )


# ---- AdamW with clipping by the norm and an average, in one call ----


class NumpyTraining:
    """What a training loop in plain NumPy does with a gradient."""

    def __init__(self, p, clip_norm):
        self.p, self.clip_norm, self.t = p, clip_norm, 0
        self.m, self.v, self.ema = np.zeros_like(p), np.zeros_like(p), p.copy()

    def step(self, g):
        norm = np.sqrt(np.sum(g * g, dtype=np.float64))
        if norm > self.clip_norm:
            g = g * np.float32(self.clip_norm / norm)
        self.t += 1
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        self.p *= 1 - LR * DECAY
        self.p -= LR / (1 - BETA1**self.t) * self.m / (np.sqrt(self.v / (1 - BETA2**self.t)) + EPS)
        self.ema += (1 - EMA_DECAY) * (self.p - self.ema)


class TorchTraining:
    """The same in PyTorch; like there, `step` leaves the gradient clipped."""

    def __init__(self, p, g, clip_norm):
        self.torch, self.clip_norm = torch_or_none(), clip_norm
        self.params = torch_tensors([p], [g])
        self.ema = [param.detach().clone() for param in self.params]
        self.opt = self.torch.optim.AdamW(self.params, lr=LR, weight_decay=DECAY, fused=True)

    def step(self):
        with self.torch.no_grad():
            norm = self.torch.nn.utils.clip_grad_norm_(self.params, self.clip_norm)
            self.opt.step()
            self.torch._foreach_lerp_(self.ema, self.params, 1 - EMA_DECAY)
        return norm


def fused_training(p, clip_norm):
    return ds.AdamW(p, lr=LR, weight_decay=DECAY, clip_norm=clip_norm, ema_decay=EMA_DECAY)


def check_training(n, steps=3):
    """Parameters, state and averages agree to rounding, each step with a new gradient that has to be clipped.

    Clipping shows in the state: Adam's step hardly depends on the size of its gradients. PyTorch adds the squares up in
    float32 and is allowed for what that does to its norm; how far off it is, is returned.
    """
    (p,), (g,) = problem([n])
    clip_norm = float(np.linalg.norm(g)) / 2
    opt, by_numpy = fused_training(p.copy(), clip_norm), NumpyTraining(p.copy(), clip_norm)
    by_torch = TorchTraining(p, g, clip_norm) if torch_or_none() else None
    off = np.nan
    for k in range(steps):
        new = np.float32(k + 1) * np.roll(g, k)
        opt.step(new)
        assert opt.last_grad_norm > clip_norm
        by_numpy.step(new)
        check_sides(opt, (by_numpy.p, by_numpy.m, by_numpy.v, by_numpy.ema), rtol=1e-5)
        if by_torch:
            by_torch.params[0].grad = by_torch.torch.tensor(new)
            off = abs(by_torch.step().item() / opt.last_grad_norm - 1)
            state = by_torch.opt.state[by_torch.params[0]]
            tensors = by_torch.params[0].detach(), state["exp_avg"], state["exp_avg_sq"], by_torch.ema[0]
            check_sides(opt, [tensor.numpy() for tensor in tensors], rtol=1e-5 + 4 * off)
    return off


def check_sides(opt, theirs, rtol):
    for ours, array in zip((opt.params, opt.state["exp_avg"], opt.state["exp_avg_sq"], opt.ema), theirs, strict=True):
        np.testing.assert_allclose(ours, array, rtol=0, atol=rtol * np.abs(array).max())


def training_rows():
    print("AdamW with clip_norm, decay and an average of the parameters, float32 (same results to rounding)\n")
    print("                   ms a step                       times faster than     of the    torch's norm")
    print("               in one step()   torch    NumPy        torch     NumPy      limit      is off by")
    for n in (1_000_000, 20_000_000):
        off = check_training(n)
        (p,), (g,) = problem([n])
        # PyTorch shrinks its gradients in place, so that from its second step on their norm is the bound; it multiplies
        # by a factor of at most 1 whether or not that is needed. Ours stay and are clipped in each step. So the passes
        # over memory are the same in every step of either side.
        clip_norm = 0.9 * float(np.linalg.norm(g))
        opt, by_numpy = fused_training(p, clip_norm), NumpyTraining(p.copy(), clip_norm)
        opt.bind(g)
        race = Race(
            {
                "fused": opt.step,
                "torch": TorchTraining(p, g, clip_norm).step if torch_or_none() else None,
                "numpy": lambda by_numpy=by_numpy, g=g: by_numpy.step(g),
                "limit": bare_loop(n, "training"),
            }
        )
        print(
            f"{n // 1_000_000:>2} million",
            cell(race.us("fused") / 1e3, 17),
            cell(race.us("torch") / 1e3, 8),
            cell(race.us("numpy") / 1e3, 8, ".1f"),
            cell(race.ratio("torch", "fused"), 12, ".2f", "x"),
            cell(race.ratio("numpy", "fused"), 9, ".1f", "x"),
            cell(race.ratio("limit", "fused"), 10),
            cell(off, 14, ".0e"),
        )


# ---- in cache, against the fused optimizers of others ----


@functools.cache
def deepspeed_or_none():
    """DeepSpeed's Adam for CPUs, if it is there and its kernel is built or can be."""
    try:
        import deepspeed.ops.adam  # noqa: F401
        from deepspeed.ops.op_builder import CPUAdamBuilder

        CPUAdamBuilder().load()
    except Exception as error:  # what it raises where it cannot build is its own
        print(f"(no DeepSpeed: {' '.join(str(error).split())[:90]})")
        return None
    return deepspeed.ops.adam.DeepSpeedCPUAdam


def adam_peers(p, g, decoupled):
    """Name -> (step, array) of the others' Adam or AdamW."""
    peers = {}
    torch = torch_or_none()
    if torch is None:
        return peers
    decay = DECAY if decoupled else 0
    (tensor,) = torch_tensors([p], [g])
    cls = torch.optim.AdamW if decoupled else torch.optim.Adam
    peers["torch"] = cls([tensor], lr=LR, weight_decay=decay, fused=True).step, tensor.detach().numpy()
    if DeepSpeedCPUAdam := deepspeed_or_none():
        (tensor,) = torch_tensors([p], [g])
        opt = DeepSpeedCPUAdam([tensor], lr=LR, weight_decay=decay, adamw_mode=decoupled)
        peers["deepspeed"] = opt.step, tensor.detach().numpy()
    return peers


def cache_rows(n=1_000_000):
    deepspeed_or_none()  # what it has to say comes before the table
    print(f"{n:,} float32 elements, in cache (same results to rounding)\n")
    print("                 us a step                       times faster than         of the")
    print("            downslope  DeepSpeed     torch    DeepSpeed  torch fused        limit")
    for cls in (ds.Adam, ds.AdamW):
        (p,), (g,) = problem([n])
        peers = adam_peers(p, g, cls is ds.AdamW)
        opt = cls(p)
        opt.bind(g)
        for _ in range(3):
            opt.step()
            for step, _ in peers.values():
                step()
        for name, (_, theirs) in peers.items():
            np.testing.assert_allclose(p, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
        race = Race({"fused": opt.step, **{name: step for name, (step, _) in peers.items()}, "limit": bare_loop(n)})
        print(
            f"{cls.__name__:<8}",
            cell(race.us("fused"), 12, ".1f"),
            cell(race.us("deepspeed"), 10, ".1f"),
            cell(race.us("torch"), 9, ".1f"),
            cell(race.ratio("deepspeed", "fused"), 12, ".2f", "x"),
            cell(race.ratio("torch", "fused"), 12, ".2f", "x"),
            cell(race.ratio("limit", "fused"), 12),
        )


# ---- 16-bit parameters and gradients ----


def half_rows(n=1_000_000):
    torch = torch_or_none()
    if torch is None:
        return
    print(f"Adam, {n:,} 16-bit parameters and gradients, in cache (same results to their rounding)\n")
    print("                 us a step               times faster")
    print("            downslope     torch    than torch's fused")
    for dtype, rounding in ((torch.float16, 2**-9), (torch.bfloat16, 2**-6)):
        (p,), (g,) = problem([n])
        g += np.sign(g)  # PyTorch keeps state in 16 bits, too, where squares of small gradients are zero; ours is in 32
        ours, theirs = (torch.tensor(p).to(dtype) for _ in range(2))
        opt = ds.Adam(ours)
        opt.bind(torch.tensor(g).to(dtype))
        theirs.requires_grad_().grad = torch.tensor(g).to(dtype)
        peer = torch.optim.Adam([theirs], fused=True)
        for _ in range(3):
            opt.step()
            peer.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=rounding, atol=0.1 * LR)
        race = Race({"fused": opt.step, "torch": peer.step})
        print(
            f"{str(dtype).removeprefix('torch.'):<9}",
            cell(race.us("fused"), 11, ".1f"),
            cell(race.us("torch"), 9, ".1f"),
            cell(race.ratio("torch", "fused"), 12, ".2f", "x"),
        )


# ---- what a call costs ----


class Idle:
    """A method call that does nothing: the limit of what is called from Python."""

    def step(self):
        pass


def call_rows(n=10):
    print(f"What a call costs: Adam, {n} float32 elements, microseconds\n")
    print("       step()   step(grads)   a Python method that does nothing")
    (p, q), (g, _) = problem([n, n])
    bound, passed = ds.Adam(p), ds.Adam(q)
    bound.bind(g)
    race = Race({"bound": bound.step, "passed": functools.partial(passed.step, g), "idle": Idle().step})
    print(cell(race.us("bound"), 13, ".3f"), cell(race.us("passed"), 13, ".3f"), cell(race.us("idle"), 15, ".3f"))


# ---- growth ----


def growth_rows(sizes=(100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000)):
    usual = ds.get_num_threads()
    print(f"Growth: Adam, float32, with 1 thread and with {usual}\n")
    print("             ns an element          times faster      of the limit")
    print(f"elements    1 thread  {usual} threads       by threads     1 thread  {usual} threads")
    for n in sizes:
        (p,), (g,) = problem([n])
        opt = ds.Adam(p)
        opt.bind(g)
        race = Race(
            {
                "one": opt.step,
                "limit of one": bare_loop(n, threads=1),
                "all": lambda opt=opt: opt.step(),
                "limit of all": bare_loop(n),
            },
            threads={"one": 1},
        )
        print(
            f"{n:<10,}",
            cell(1e3 * race.us("one") / n, 9, ".3f"),
            cell(1e3 * race.us("all") / n, 10, ".3f"),
            cell(race.ratio("one", "all"), 16),
            cell(race.ratio("limit of one", "one"), 12),
            cell(race.ratio("limit of all", "all"), 10),
        )


# ---- gradients of some rows ----


# PyTorch's SparseAdam adds eps to the root of the second moment without its correction, so that for the smallest
# gradients the two differ; with a smaller eps there are none.
ROW_OPTIONS = {"lr": LR, "eps": 1e-14}


def cycled(step, gradients):
    """A step with the next gradient each time."""
    following = itertools.cycle(gradients)
    return lambda: step(next(following))


def torch_row_step(name, table, gradients):
    """The same in PyTorch, whose sparse gradients must be coalesced: (step, array), or None."""
    torch = torch_or_none()
    if torch is None:
        return None
    torch.sparse.check_sparse_tensor_invariants.disable()
    tensor = torch.tensor(table, requires_grad=True)
    opt = {"Adagrad": torch.optim.Adagrad, "Adam": torch.optim.SparseAdam}[name]([tensor], **ROW_OPTIONS)
    sparse = []
    for grad in gradients:
        order = np.argsort(grad.rows)
        rows, values = torch.tensor(grad.rows[order])[None], torch.tensor(grad.values[order])
        sparse.append(torch.sparse_coo_tensor(rows, values, table.shape, is_coalesced=True))

    def step(grad):
        tensor.grad = grad
        opt.step()

    return cycled(step, sparse), tensor.detach().numpy()


def row_rows(rows=1_000_000, columns=16, touched=1000, sets=256):
    print(f"RowGrad: {touched:,} of {rows:,} rows of {columns} float32 elements (same results to rounding)\n")
    print("                                       us a step                         times")
    print("                            RowGrad   dense, of those    torch sparse    the dense   faster than torch")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((touched, columns), dtype=np.float32)
    every = [ds.RowGrad(rng.permutation(rows)[:touched], values) for _ in range(sets)]
    for cls in (ds.Adagrad, ds.Adam):
        for what, gradients in (("the same rows", every[:1]), ("other rows each", every)):
            table = rng.standard_normal((rows, columns), dtype=np.float32)
            by_torch = torch_row_step(cls.__name__, table, gradients)
            step = cycled(cls(table, **ROW_OPTIONS).step, gradients)
            dense = cls(rng.standard_normal((touched, columns), dtype=np.float32), **ROW_OPTIONS)
            dense.bind(values)
            if by_torch:
                for _ in range(3):
                    step()
                    by_torch[0]()
                np.testing.assert_allclose(table, by_torch[1], rtol=1e-5, atol=1e-6)
            race = Race({"rows": step, "dense": dense.step, "torch": by_torch and by_torch[0]})
            print(
                f"{cls.__name__:<8} {what:<16}",
                cell(race.us("rows"), 9, ".1f"),
                cell(race.us("dense"), 17, ".1f"),
                cell(race.us("torch"), 15, ".1f"),
                cell(race.ratio("rows", "dense"), 12, ".1f"),
                cell(race.ratio("torch", "rows"), 18, ".1f", "x"),
            )


PARTS = {
    "state": state_rows,
    "training": training_rows,
    "cache": cache_rows,
    "halves": half_rows,
    "calls": call_rows,
    "growth": growth_rows,
    "rows": row_rows,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=side_by_side.ROUNDS, help="default: %(default)s")
    args = parser.parse_args()
    if not set(args.parts) <= set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    side_by_side.ROUNDS = args.rounds
    ds.show_config()
    for part in args.parts:
        print("\n")
        PARTS[part]()
