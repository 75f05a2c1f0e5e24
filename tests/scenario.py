"""All features of a step in a few runs, and the bits that come out: run it to print digests of them."""

import hashlib
import json

import numpy as np
from rule_cases import CASES, CODED_CASES, DTYPES, LAYOUTS, ROW_CASES, case_id, gradients, in_c_order, on_threads

import downslope as ds

STATE_DTYPES = (None, "bfloat16", "uint8")


def digests():
    """Run -> digest of parameters, state, averages and norms; any NaN counts as any other."""
    with np.errstate(all="ignore"):
        return {
            f"{case_id(case)} {state_dtype}": hashlib.sha256(b"".join(run(case, state_dtype))).hexdigest()
            for case in CASES
            for state_dtype in STATE_DTYPES
            if state_dtype is None or case in CODED_CASES
        }


def run(case, state_dtype):
    """The bytes of all that a run leaves."""
    name, hyper = case
    rng = np.random.default_rng(7)
    takes_rows = case in ROW_CASES and state_dtype != "uint8"
    groups = [
        {"params": arrays(rng, "float32"), "weight_decay": 0.1},
        {"params": arrays(rng, "float64"), "clip_value": 2.0, "maximize": True},
        {"params": arrays(rng, "float16"), "grad_scale": 1 / 3, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"params": arrays(rng, "bfloat16"), "lr": 0.1},
    ]
    options = {"rounding": "stochastic", "seed": 11, "clip_norm": 300.0, "nonfinite": "skip"}
    opt = ds.OPTIMIZERS[name](
        groups, state_dtype=state_dtype, ema_decay=None if takes_rows else 0.9, **{**options, **hyper}
    )
    for step in range(8):
        grads = gradients(rng, opt.params)
        grads[step] = None
        if takes_rows and step != 1:
            grads[1] = ds.RowGrad(rng.integers(0, 30, 40), gradients(rng, [np.zeros((40, 50), "f4")])[0])
        if step == 3:
            grads[-2][700] = np.nan
        if step == 4:
            opt.nonfinite, opt.clip_norm = "propagate", None
            grads[-2][1300:] = np.inf
        with on_threads(1 + step % 3):
            if step % 3 == 2 and not takes_rows:
                opt.accumulate(grads)
                opt.accumulate(gradients(rng, opt.params))
                opt.step()
            else:
                opt.step(grads)
        yield repr(opt.last_grad_norm).encode()
    for array in [*opt.params, *(opt.ema or []), *(slot for slots in opt.state for slot in slots.values())]:
        flat = in_c_order(array).copy()
        if flat.dtype.kind not in "iu":
            flat[np.isnan(flat)] = np.nan
        yield flat.tobytes()


def arrays(rng, dtype):
    """Two of a dtype: a flat one, and one of no simple layout."""
    made = [np.zeros(2600, DTYPES[dtype]), LAYOUTS["fortran" if dtype == "float32" else "reversed"](DTYPES[dtype])]
    for array in made:
        array[...] = rng.standard_normal(array.shape)
    return made


if __name__ == "__main__":
    print(json.dumps(digests()))
