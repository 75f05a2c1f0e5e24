"""What all running preconditioners have in common: layers, checks, failures, checkpoints."""

import warnings
from collections.abc import Mapping

import numpy as np

from downslope._extension import core
from downslope.rules.state import MAX_STEPS, fill_array
from downslope.rules.tree_file import check_class, write_tree
from downslope.validation import integer, number, real_array


def floating(name, value):
    """`value` as a C-contiguous array, of float32 if it is that already, and else of float64."""
    array = real_array(name, value)
    return np.require(array, np.float32 if array.dtype == np.float32 else np.float64, ["C", "ALIGNED"])


def positive(name, value):
    """`value` as a finite float greater than 0."""
    x = number(name, value, lower=0)
    if x == 0:
        raise ValueError(f"{name} must be > 0 and finite, got {value!r}")
    return x


def positive_shape(name, shape, axes=None):
    """`shape` as a tuple of positive integers, as many as `axes`, or any number from one on."""
    if not isinstance(shape, (tuple, list)) or len(shape) == 0 or (axes is not None and len(shape) != axes):
        raise ValueError(f"{name} must be a tuple of {axes or 'one or more'} integers >= 1, got {shape!r}")
    return tuple(integer(f"{name}[{i}]", extent, lower=1) for i, extent in enumerate(shape))


class Preconditioner:
    """A running estimate of curvature for the layers of a model, which makes directions of gradients.

    This is the base of `KFAC`, `EKFAC`, `TONGA` and `DiagonalFisher`; it makes no preconditioner itself.

    A batch that is not finite, or whose moments overflow, is left out, and a factorization that fails leaves the last
    good one in use; both are counted in `failures` and told by a `RuntimeWarning` that names the layer. What `update`
    has taken in is therefore always finite. A preconditioner used from two threads is serialised by its own lock, and
    kernels run without the GIL.

    Attributes
    ----------
    layers : dict
        Name of each layer -> its shape.
    failures : dict
        Name of each layer -> how many batches were left out and factorizations failed.
    """

    def __init__(self, layers, axes=None):
        if not isinstance(layers, Mapping) or not layers:
            raise ValueError(f"layers must be a mapping from names to shapes, with at least one, got {layers!r}")
        self.layers = {name: positive_shape(f"layers[{name!r}]", shape, axes) for name, shape in layers.items()}
        self.failures = dict.fromkeys(self.layers, 0)
        self._connect({name: self._new_slots(shape) for name, shape in self.layers.items()})

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({len(self.layers)} layers, {settings})"

    def __getstate__(self):
        """Everything but the lock and the core's object, with state that no other thread changes meanwhile."""
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_core")}
            return {**state, "failures": dict(self.failures), "_state": _copied(self._state)}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._connect(_copied(self._state))  # pickle may have put arrays into memory that must not be written
        self._after_load()

    def state_dict(self):
        """Settings, running averages, counts and failures, copied.

        Returns
        -------
        dict
            ``"class"``, ``"settings"``, ``"layers"`` (name -> shape), ``"failures"`` (name -> number) and ``"state"``:
            name -> what the layer has, arrays and counts.
        """
        with self._lock:
            return {
                "class": type(self).__name__,
                "settings": self._settings(),
                "layers": dict(self.layers),
                "failures": dict(self.failures),
                "state": _copied(self._state),
            }

    def load_state_dict(self, state_dict):
        """Go on from where `state_dict()` was taken, with the same bits.

        Parameters
        ----------
        state_dict : dict
            Of a preconditioner of the same class, layers and settings; damping and `max_kl`, where there is one, are
            taken over.

        Raises
        ------
        ValueError
            If it does not fit; then nothing is changed.
        """
        with self._lock:
            try:
                self._load(state_dict)
            except KeyError as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: it lacks {error}") from error
            except (TypeError, AttributeError) as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: {error}") from error

    def save(self, path):
        """Write `state_dict()` to a file, for `load_preconditioner` to go on from.

        Parameters
        ----------
        path : str or path-like
            A file in the safetensors format, which is written whole or, if that fails, left as it was.

        Raises
        ------
        TypeError
            If a layer's name is neither a string nor an integer, or this is a subclass of one's own.
        OSError
            If the file cannot be written.
        ImportError
            Without the library safetensors: ``pip install 'downslope[io]'``.
        """
        from downslope.preconditioners import PRECONDITIONERS  # it imports all of them, and they this file

        check_class(self, PRECONDITIONERS, "downslope.preconditioners.PRECONDITIONERS")
        write_tree(path, self.state_dict())

    # What a class has of its own: its settings by their names in the constructor, which of them may change, the state
    # of a layer, of which arrays its factorization is made, if it has one, and the core's object that looks at the
    # state.
    _changeable = ("damping",)
    _factorized_arrays = ()

    def _settings(self):
        raise NotImplementedError

    def _new_state(self, shape):
        raise NotImplementedError

    def _new_core(self):
        raise NotImplementedError

    def _factorize_layers(self, names, damping):
        """For each layer what of it is not positive definite, or an empty string. One that fails keeps its last one."""
        raise NotImplementedError

    # How many updates make a factorization an old one.
    _factorization_period = 1

    def _new_slots(self, shape):
        """The state of a layer, with what the factorization in use was made of, for copies and checkpoints."""
        slots = {"updates": 0, **self._new_state(shape)}
        if self._factorized_arrays:
            slots.update(factorized_updates=0, factorized_damping=0.0)
            slots.update({f"factorized_{key}": slots[key].copy() for key in self._factorized_arrays})
        return slots

    def _is_due(self, slots):
        return (
            slots["factorized_updates"] == 0
            or slots["updates"] - slots["factorized_updates"] >= self._factorization_period
            or slots["factorized_damping"] != self._damping
        )

    def _factorize(self):
        """Factorize anew what is due; raise if a first factorization fails."""
        due = [name for name, slots in self._state.items() if self._is_due(slots)]
        failed = []
        for name, part in zip(due, self._factorize_layers(due, self._damping), strict=True):
            slots = self._state[name]
            if part:
                failed.append((name, part))
                continue
            for key in self._factorized_arrays:
                slots[f"factorized_{key}"][...] = slots[key]
            slots.update(factorized_updates=slots["updates"], factorized_damping=self._damping)
        for name, part in failed:
            if self._state[name]["factorized_updates"] == 0:
                raise np.linalg.LinAlgError(
                    f"layer {name!r}: {part} is not positive definite with damping {self._damping:g}: "
                    "give it more damping"
                )
        self._report([(name, f"{part} is not positive definite: the last good one is used") for name, part in failed])

    def _after_load(self):
        """Repeat the factorizations that were in use."""
        for name, slots in self._state.items():
            if not slots.get("factorized_updates"):
                continue
            current = {key: slots[key].copy() for key in self._factorized_arrays}
            for key in current:
                slots[key][...] = slots[f"factorized_{key}"]
            (failed,) = self._factorize_layers([name], slots["factorized_damping"])
            for key, values in current.items():
                slots[key][...] = values
            if failed:
                slots["factorized_updates"] = 0

    def _connect(self, state):
        self._lock = core.Lock("preconditioner")
        self._state = state
        self._core = self._new_core()

    def _load(self, saved):
        changes = {name: saved["settings"][name] for name in self._changeable}
        for what, mine in (
            ("class", type(self).__name__),
            ("layers", self.layers),
            ("settings", {**self._settings(), **changes}),
        ):
            if saved[what] != mine:
                raise ValueError(f"state_dict has the {what} {saved[what]!r}, this preconditioner {mine!r}")
        failures = {
            name: integer(f"state_dict['failures'][{name!r}]", saved["failures"][name], lower=0) for name in self.layers
        }
        state = _copied(self._state)
        for name, slots in state.items():
            _fill(slots, saved["state"][name], f"state_dict['state'][{name!r}]")
        changed = object.__new__(type(self))
        changed.__setstate__({**self.__dict__, "failures": failures, "_state": state})
        for name, value in changes.items():
            setattr(changed, name, value)
        self.__dict__.update(changed.__dict__, _lock=self._lock)

    def _names_in(self, argument, given, all_of_them):
        """The names in a mapping, which must be layers."""
        if not isinstance(given, Mapping):
            raise ValueError(f"{argument} must be a mapping from names of layers, got a {type(given).__name__}")
        foreign = [repr(name) for name in given if name not in self.layers]
        missing = [repr(name) for name in self.layers if name not in given] if all_of_them else []
        if foreign or missing:
            raise ValueError(
                f"{argument} must have the names of the layers: "
                + ", ".join([f"{name} is missing" for name in missing] + [f"{name} is unexpected" for name in foreign])
            )
        return list(given)

    def _require_updates(self):
        for name, slots in self._state.items():
            if slots["updates"] == 0:
                raise RuntimeError(f"the layer {name!r} has had no update: call update() before precondition()")

    def _report(self, failed):
        """Count and tell the failures, a list of (name, what happened)."""
        for name, _ in failed:
            self.failures[name] += 1
        for name, what in failed:
            warnings.warn(f"layer {name!r}: {what}", RuntimeWarning, stacklevel=4)


def _copied(state):
    return {
        name: {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in slots.items()}
        for name, slots in state.items()
    }


def _fill(slots, saved, where):
    """Copy what was saved into a layer's new state."""
    if set(saved) != set(slots):
        raise ValueError(f"{where} must have {sorted(slots)}, got {sorted(saved)}")
    for name, value in slots.items():
        if isinstance(value, np.ndarray):
            fill_array(value, saved[name], f"{where}[{name!r}]")
            if not np.isfinite(value).all():
                raise ValueError(f"{where}[{name!r}] must be finite, got NaN or infinity")
        elif isinstance(value, float):
            slots[name] = float(saved[name])
        else:
            slots[name] = integer(f"{where}[{name!r}]", saved[name], lower=0, upper=MAX_STEPS)
