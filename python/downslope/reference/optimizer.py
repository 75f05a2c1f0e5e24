"""What surrounds a rule: gradients on their way in, storage, and the order of everything in a step."""

import math

import numpy as np

from downslope.reference.codecs import (
    bfloat16_decode,
    bfloat16_encode,
    float16_decode,
    float16_encode,
    uint8_decode,
    uint8_encode,
)
from downslope.reference.random_bits import PARAMETER, random_bits
from downslope.reference.rules import RULES

# Parameters of 16 bits; NumPy itself has no bfloat16, so that it is known by its name.
ENCODE = {"float16": float16_encode, "bfloat16": bfloat16_encode}
DECODE = {"float16": float16_decode, "bfloat16": bfloat16_decode}

# Slots that need no sign in 8 bits.
NEVER_NEGATIVE = {
    "acc_delta",
    "exp_avg_sq",
    "exp_avg_var",
    "exp_inf",
    "max_exp_avg_sq",
    "max_exp_avg_var",
    "square_avg",
    "sum",
}

EVERY = slice(None)  # element of an array


def compute_type(array):
    """The type that an array is worked on in."""
    return np.float64 if array.dtype == np.float64 else np.float32


def widened(array, T):
    """All elements in a new flat array of type `T`, in C order."""
    if array.dtype.name in DECODE:
        return DECODE[array.dtype.name](array.reshape(-1).view(np.uint16)).astype(T)
    return array.reshape(-1).astype(T)


def sum_of_rows(rows, values):
    """The rows that occur, ascending, and for each the sum of its values, in the order in which they appear."""
    sums = {}
    for row, value in zip(rows.tolist(), values, strict=True):
        sums[row] = sums[row] + value if row in sums else value
    unique = sorted(sums)
    return np.array(unique, np.int64), np.array([sums[row] for row in unique], values.dtype)


def norm(arrays):
    """The root of the sum of all squares, in float64.

    Each tile of 1024 elements is summed in 16 lanes, which are then folded; then tile is added to tile. This order
    suits vectors of any width, and threads that share out the tiles.
    """
    total = 0.0
    for array in arrays:
        x = np.zeros(-(-array.size // 1024) * 1024)
        x[: array.size] = array
        x = x.reshape(-1, 64, 16)
        lanes = np.zeros((len(x), 16))
        for k in range(64):
            lanes += x[:, k] * x[:, k]
        for width in (8, 4, 2, 1):
            lanes[:, :width] += lanes[:, width : 2 * width]
        for tile in lanes[:, 0].tolist():
            total += tile
    return math.sqrt(total)


class Optimizer:
    """A list of arrays stepped by one rule.

    With g the gradient of an array, in its compute type T (float64 for float64, float32 for the others), and all
    coefficients worked out in Python floats and cast once to T, a step does this:

    1. ``nonfinite``: a NaN or an infinity in any g ends the step here, before anything has changed;
    2. ``h = f g``, with f the `grad_scale`, negated to `maximize`, over the number of accumulated gradients;
    3. `clip_value`: ``h = min(max(h, -clip_value), clip_value)``;
    4. `clip_norm`: ``h = (clip_norm / norm) h`` if ``norm > clip_norm``, with norm the root of the sum of all h^2;
    5. `weight_decay`: ``h = h + weight_decay p``, or, decoupled, ``p = (1 - lr weight_decay) p``;
    6. the rule;
    7. state and parameter are stored, and rounded if they are kept in fewer bits;
    8. `ema_decay`: ``e = e + (1 - ema_decay) (p - e)`` with the parameter p as stored.

    1 and 4 look at all arrays together, the others at each array that has a gradient.

    Parameters
    ----------
    rule : str
        A key of `RULES`.
    params : list of ndarray
        Of float64, float32, float16 or bfloat16. Updated in place.
    weight_decay : float
    decoupled_weight_decay, maximize : bool
    grad_scale : float
    clip_value, clip_norm : float, optional
    nonfinite : {"propagate", "raise", "skip"}
        "propagate" doesn't look; "skip" counts the step in `skipped_steps`.
    state_dtype : {None, "bfloat16", "uint8"}
        None keeps state in T; the others round it stochastically.
    rounding : {"nearest", "stochastic"}
        Of parameters of 16 bits.
    seed : int
    ema_decay : float, optional
    **hyper
        The rule's hyper-parameters.

    Attributes
    ----------
    state : list of dict
        For each array, once it has been stepped: slot -> flat array, of T, of the bits of bfloat16 in uint16, or of
        codes in uint8 with their scales, float32, under ``slot + "_scale"``. NAdam's ``mu_product`` is a float.
    steps : list of int
        The step count of each array.
    ema : list of ndarray or None
        Averages of the parameters, flat, of T.
    last_grad_norm : float or None
        The norm that `clip_norm` is compared to, if the last step worked it out: for it, or because of `nonfinite`.
        A step that is skipped leaves it alone.
    skipped_steps : int

    Examples
    --------
    >>> p = np.ones(3)
    >>> Optimizer("sgd", [p], lr=0.5).step([np.array([0.0, 1.0, 2.0])])
    >>> p
    array([1. , 0.5, 0. ])
    """

    def __init__(
        self,
        rule,
        params,
        *,
        weight_decay=0.0,
        decoupled_weight_decay=False,
        maximize=False,
        grad_scale=1.0,
        clip_value=None,
        clip_norm=None,
        nonfinite="propagate",
        state_dtype=None,
        rounding="nearest",
        seed=0,
        ema_decay=None,
        **hyper,
    ):
        self.rule, self.params = RULES[rule], list(params)
        self.weight_decay, self.decoupled = weight_decay, decoupled_weight_decay
        self.factor = -grad_scale if maximize else grad_scale
        self.clip_value, self.clip_norm, self.nonfinite = clip_value, clip_norm, nonfinite
        self.state_dtype, self.rounding, self.seed = state_dtype, rounding, seed
        self.ema_decay = ema_decay
        self.ema = None if ema_decay is None else [widened(param, compute_type(param)) for param in self.params]
        self.state = [{} for _ in self.params]
        self.steps = [0 for _ in self.params]
        self.accumulated, self.accumulations = [None for _ in self.params], 0
        self.last_grad_norm, self.skipped_steps = None, 0
        self.hyper = {}
        self.change(**hyper)

    def change(self, **hyper):
        """Other hyper-parameters from here on; state that they newly ask for starts afresh, other state is gone."""
        self.hyper |= hyper
        made = {}
        self.rule(np.zeros(0), np.zeros(0), made, 1, **self.hyper)  # a step of no elements shows what state it keeps
        self.slots = [name for name in made if name != "mu_product"]
        for i, (param, old) in enumerate(zip(self.params, self.state, strict=True)):
            if old:
                new = self._new_state(param.size, compute_type(param))
                kept = {name: old[name] for name in old if name in new or name in made}
                self.state[i] = new | kept

    @property
    def lr(self):
        """The learning rate in force: as given, or the rule's default."""
        return self.hyper.get("lr", self.rule.__kwdefaults__["lr"])

    @lr.setter
    def lr(self, value):
        self.hyper["lr"] = value

    def accumulate(self, grads):
        """Add gradients to those that `step` without an argument will apply; a gradient of None adds nothing."""
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if grad is not None:
                g, total = widened(grad, compute_type(param)), self.accumulated[i]
                self.accumulated[i] = g if total is None else total + g
        self.accumulations += 1

    def step(self, grads=None):
        """Update each parameter by its gradient; a gradient of None leaves its parameter, state and count alone.

        Parameters
        ----------
        grads : list, optional
            Each an array, None, or an object with ``rows`` (k integers, in any order, repeated or not) and ``values``
            (k, *param.shape[1:]). Values of the same row are summed first, in the order in which they appear; then
            the rows that occur, ascending, make up the gradient, and nothing but these rows moves.
            Without `grads`: the mean of what has been accumulated, which is then cleared.

        Raises
        ------
        FloatingPointError
            If a gradient has an element that is not finite, and `nonfinite` is "raise".
        RuntimeError
            If there are no gradients, passed or accumulated.
        ValueError
            If a gradient has rows, and state in uint8 or an EMA would make every row move.
        """
        if grads is not None:
            self._step(grads, 1)
        elif self.accumulations == 0:
            raise RuntimeError("step() has no gradients: none were passed, and none were accumulated")
        else:
            self._step(self.accumulated, self.accumulations)
            self.accumulated, self.accumulations = [None for _ in self.params], 0

    def _step(self, grads, count):
        """`step` by gradients, each the sum of so many."""
        where, moving = {}, {}  # array number -> which of its elements, and their gradient
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if grad is not None:
                where[i], moving[i] = self._elements(param, grad)

        if self.nonfinite != "propagate":
            for i, g in moving.items():
                if not np.isfinite(g).all():
                    if self.nonfinite == "raise":
                        raise FloatingPointError(f"grads[{i}] has an element that is not finite")
                    self.skipped_steps += 1
                    return

        moving = {i: self._scaled(i, g, count) for i, g in moving.items()}

        self.last_grad_norm = None
        if self.clip_norm is not None or self.nonfinite != "propagate":
            self.last_grad_norm = norm(moving.values())
            if self.clip_norm is not None and self.last_grad_norm > self.clip_norm:
                for h in moving.values():
                    h *= h.dtype.type(self.clip_norm / self.last_grad_norm)

        for i, h in moving.items():
            self._move(i, where[i], h)

    def _elements(self, param, grad):
        """Which elements of `param` a gradient is for, and their gradient, flat, in the compute type."""
        T = compute_type(param)
        if not hasattr(grad, "rows"):
            return EVERY, widened(grad, T)
        if self.state_dtype == "uint8" or self.ema_decay is not None:
            raise ValueError("a gradient of rows goes neither with state_dtype='uint8' nor with ema_decay")
        rows, summed = sum_of_rows(grad.rows, widened(grad.values, T).reshape(grad.values.shape))
        width = math.prod(param.shape[1:])
        return (rows[:, None] * width + np.arange(width)).reshape(-1), summed.reshape(-1)

    def _scaled(self, i, g, count):
        """The gradient of array `i`, up to where the norm is taken, of a sum of so many."""
        T = g.dtype.type
        g *= T(self.factor / count)  # a copy of what was passed
        if self.clip_value is not None:
            c = T(self.clip_value)
            g[g > c] = c
            g[g < -c] = -c
        return g

    def _move(self, i, where, h):
        """Weight decay, the rule and storage, for these elements of array `i`."""
        param, T = self.params[i], h.dtype.type
        self.steps[i] += 1
        encode, decode = ENCODE.get(param.dtype.name), DECODE.get(param.dtype.name)
        stored = param if encode is None else param.view(np.uint16)
        flat = stored.reshape(-1)  # a copy, if the parameter is strided
        p = flat[where] if encode is None else decode(flat[where])

        if self.decoupled:
            p *= T(1 - self.lr * self.weight_decay)
        elif T(self.weight_decay) != 0:
            h = h + T(self.weight_decay) * p
        if not self.state[i]:
            self.state[i] = self._new_state(param.size, T)
        s = self._decoded_state(i, where, T)
        self.rule(p, h, s, self.steps[i], **self.hyper)

        self._encode_state(i, where, s)
        if encode is not None:
            p = encode(p, self._random_bits(i, PARAMETER, where, 16) if self.rounding == "stochastic" else None)
        if not np.shares_memory(p, param):  # of 16 bits, of rows, or of a strided parameter
            flat[where] = p
            stored[...] = flat.reshape(stored.shape)
        if self.ema is not None:
            e = self.ema[i]
            e += T(1 - self.ema_decay) * (widened(param, T) - e)

    def _new_state(self, size, T):
        """State before the first step: zeros, or the initial value, rounded to nearest to what can be stored."""
        fill = (self.rule.__kwdefaults__ | self.hyper).get("initial_accumulator_value", 0.0)  # Adagrad's only slot
        state = {}
        for name in self.slots:
            x = np.full(size, fill, T)
            if self.state_dtype is None:
                state[name] = x
            elif self.state_dtype == "bfloat16":
                state[name] = bfloat16_encode(x)
            else:
                state[name], state[name + "_scale"] = uint8_encode(x, name not in NEVER_NEGATIVE)
        return state

    def _decoded_state(self, i, where, T):
        """The state of these elements as the rule works on it; views, where it is stored as such."""
        stored, s = self.state[i], {}
        for name in self.slots:
            if self.state_dtype is None:
                s[name] = stored[name][where]
            elif self.state_dtype == "bfloat16":
                s[name] = bfloat16_decode(stored[name][where]).astype(T)
            else:
                s[name] = uint8_decode(stored[name], stored[name + "_scale"], name not in NEVER_NEGATIVE).astype(T)
        if "mu_product" in stored:
            s["mu_product"] = stored["mu_product"]
        return s

    def _encode_state(self, i, where, s):
        """Store what the rule has left in `s`."""
        stored = self.state[i]
        for k, name in enumerate(self.slots):
            if self.state_dtype is None:
                if where is not EVERY:  # else it is the stored array itself
                    stored[name][where] = s[name]
            elif self.state_dtype == "bfloat16":
                stored[name][where] = bfloat16_encode(s[name], self._random_bits(i, k, where, 16))
            else:
                random = self._random_bits(i, k, where, 20)
                stored[name], stored[name + "_scale"] = uint8_encode(s[name], name not in NEVER_NEGATIVE, random)
        if "mu_product" in s:
            stored["mu_product"] = s["mu_product"]

    def _random_bits(self, i, slot, where, width):
        index = np.arange(self.params[i].size, dtype=np.uint64)[where]
        return random_bits(self.seed, i, self.steps[i], slot, index, width)
