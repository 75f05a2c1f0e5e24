"""What all optimizers have in common: parameters, groups, state, and one call of the core a step."""

import threading
from types import MappingProxyType

import numpy as np

from downslope._extension import core
from downslope.rules.arrays import check_parameters
from downslope.rules.hyperparameters import Schema
from downslope.rules.param_group import ParamGroup
from downslope.rules.structure import OneArray, read_group, read_params
from downslope.validation import integer, number


class Optimizer:
    """Moves arrays downhill, in place, by one rule; the base of `Adam`, `SGD` and all others.

    Parameters
    ----------
    params : ndarray, sequence or mapping of ndarray, or sequence of dicts
        The arrays to update, float32 or float64, of any layout. Dicts are groups, ``{"params": arrays, "lr": 0.1, ...}``:
        what a group doesn't set is as given to the optimizer.
    lr : float or callable
        A number, or a schedule ``lr(step) -> float`` with step = 1, 2, ...
    weight_decay : float, default 0.0
        Adds ``weight_decay * p`` to the gradient (an L2 penalty) ...
    decoupled_weight_decay : bool, default False
        ... or, if true, multiplies the parameter by ``1 - lr * weight_decay`` (Loshchilov & Hutter 2019).
    maximize : bool, default False
        Whether to go uphill: the gradient is negated.
    grad_scale : float, default 1.0
        The gradient is multiplied by it first of all.

    Raises
    ------
    TypeError
        If a parameter is not a NumPy array of float32 or float64, or a keyword is unknown.
    ValueError
        If an array cannot be updated in place (read-only, overlapping itself or another one), or a hyper-parameter is out
        of range.

    Notes
    -----
    A gradient has its parameter's shape and a dtype that casts safely to the parameter's. A call that raises has changed
    nothing. Results are the same bits for every number of threads, instruction set and memory layout, and equal those of
    `downslope.reference`. One optimizer may be used from several threads: its calls take turns.
    """

    rule = None  # the core's name for the rule
    source = None  # who published it, and when

    def __init__(self, params, **hyper):
        if self.rule is None:
            raise TypeError("Optimizer is only the base of the rules: make an Adam, an SGD, ...")
        self._lock = threading.RLock()
        self._schema = Schema(self.rule)
        defaults = {name: self._schema.default(name) for name in self._schema.names}
        self._defaults = {**defaults, **self._checked(hyper, f"{type(self).__name__}()")}
        self._bound = None
        structure, groups = read_params(params)
        self._install(structure, groups, step_count=0)

    # ---- the step ----

    def step(self, grads=None):
        """Update the parameters by their gradients.

        Parameters
        ----------
        grads : ndarray, sequence or mapping of ndarray, optional
            In the structure of the parameters; for groups, a flat list in their order. A gradient of None leaves its
            array, the array's state and its step count alone. Without `grads`, the bound ones are used.

        Raises
        ------
        TypeError
            If a gradient is no NumPy array of float32 or float64, or does not cast safely to its parameter's dtype.
        ValueError
            If structure or shapes differ, or a gradient shares memory with a parameter or its state.
        RuntimeError
            If there are no gradients, passed or bound.

        Examples
        --------
        >>> import numpy as np
        >>> import downslope as ds
        >>> p = np.array([1.0, 2.0])
        >>> opt = ds.SGD(p, lr=0.5)
        >>> opt.step(p * 2)
        >>> p
        array([0., 0.])
        """
        with self._lock:
            if self._scheduled:
                self._apply_schedules()
            if grads is None:
                self._stepper.step_bound()
            else:
                self._stepper.step(self._structure.flatten(grads))

    def bind(self, grads):
        """Fix the arrays that hold the gradients, for `step()` without arguments: the fastest call.

        Parameters
        ----------
        grads : as for `step`
            Write new gradients into these arrays before each step.

        Raises
        ------
        TypeError, ValueError
            As `step` does.

        Examples
        --------
        >>> import numpy as np
        >>> import downslope as ds
        >>> p, g = np.array([1.0, 2.0]), np.empty(2)
        >>> opt = ds.SGD(p, lr=0.5)
        >>> opt.bind(g)
        >>> for _ in range(3):
        ...     np.multiply(p, 2, out=g)
        ...     opt.step()
        array([2., 4.])
        array([0., 0.])
        array([0., 0.])
        """
        with self._lock:
            flat = self._structure.flatten(grads)
            self._stepper.bind(flat)
            self._bound = flat

    # ---- what there is to see ----

    @property
    def params(self):
        """The parameters, in the structure they were given in; for groups, a flat list."""
        return self._structure.unflatten(self._params)

    @property
    def state(self):
        """For each parameter, in the structure of `params`, a mapping from slot name to array, with its ``"step"`` count.

        The arrays are the optimizer's own: what is written into them counts.
        """
        return self._structure.unflatten([MappingProxyType(slots) for slots in self._state])

    @property
    def step_count(self):
        """How many calls of `step` have moved anything."""
        return self._stepper.step_count

    @property
    def lr(self):
        """The learning rate, as set: a number or a schedule. Setting it sets it in all groups."""
        rates = [group["lr"] for group in self._groups]
        if any(rate != rates[0] for rate in rates):
            raise ValueError(f"lr differs between the groups, {rates}: look into param_groups")
        return rates[0]

    @lr.setter
    def lr(self, value):
        with self._lock:
            self._schema.check("lr", value)
            for group in self._groups:
                group["lr"] = value

    @property
    def param_groups(self):
        """The groups: mappings of hyper-parameters, which check what is set and heed it from the next step on."""
        return list(self._groups)

    def __repr__(self):
        elements = sum(param.size for param in self._params)
        head = f"{len(self._params)} array{'s' * (len(self._params) != 1)} of {elements:,} elements"
        groups = "".join(f"\n    group {i}: {group!r}" for i, group in enumerate(self._groups))
        return f"{type(self).__name__}({head}, step_count={self.step_count}{groups})"

    def add_param_group(self, group):
        """Take more arrays in, with settings of their own.

        Parameters
        ----------
        group : dict
            ``{"params": arrays, ...}``, as in a list of groups. If the parameters are a mapping, so are the new ones.

        Raises
        ------
        TypeError, ValueError
            As on construction. One array alone, given as such, cannot be extended (`ValueError`).

        Notes
        -----
        Bound gradients are let go, since they no longer match.
        """
        with self._lock:
            if isinstance(self._structure, OneArray):
                raise ValueError("params is one array: pass a sequence, a mapping or groups to extend it later")
            arrays, settings = read_group("group", group)
            given = group["params"]
            structure = self._structure.extended(given if hasattr(given, "keys") else arrays)
            groups = [(g["params"], dict(g._values)) for g in self._groups] + [(arrays, settings)]
            self._install(structure, groups, self.step_count, self._state)
            self._bound = None

    # ---- saving ----

    def state_dict(self):
        """Rule, hyper-parameters, state and counts, copied; not the parameters, and no schedule (``lr`` is then None).

        Returns
        -------
        dict
            In the layout of PyTorch: ``"state"`` maps the number of each array to its slots and its ``"step"``,
            ``"param_groups"`` lists the hyper-parameters; and with ``"rule"`` and ``"step_count"``.

        Examples
        --------
        >>> import numpy as np
        >>> import downslope as ds
        >>> opt = ds.SGD(np.ones(3), lr=0.1, momentum=0.9)
        >>> opt.step(np.ones(3))
        >>> opt.state_dict()["state"]
        {0: {'momentum_buffer': array([1., 1., 1.]), 'step': 1}}
        """
        with self._lock:
            state = {i: {name: _saved(slot) for name, slot in slots.items()} for i, slots in enumerate(self._state)}
            groups, first = [], 0
            for group in self._groups:
                values = {name: None if name == "lr" and callable(v) else v for name, v in group._values.items()}
                groups.append({**values, "params": list(range(first, first + len(group["params"])))})
                first += len(group["params"])
            return {"rule": self.rule, "step_count": self.step_count, "state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Go on from where `state_dict()` was taken, with this optimizer's own parameters.

        Parameters
        ----------
        state_dict : dict
            Of an optimizer of the same rule with arrays of the same shapes and dtypes in the same groups. Where its lr is
            None, the lr of this optimizer stays.

        Raises
        ------
        ValueError
            If it doesn't fit; then nothing is changed.

        Notes
        -----
        The arrays in `state` are new ones afterwards.
        """
        with self._lock:
            try:
                self._load(state_dict)
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: {error}") from error

    def __reduce__(self):
        with self._lock:
            parts, first = [], 0
            for group in self._groups:
                parts.append(self._structure.part(first, group["params"]))
                first += len(group["params"])
            return _restored, (type(self), parts, self.state_dict(), [group["lr"] for group in self._groups])

    # ---- inside ----

    def _check_group(self, values):
        """For rules whose hyper-parameters must also fit each other."""

    def _checked(self, settings, where):
        """The settings in their normal form, after a look at each."""
        unknown = [name for name in settings if name not in self._schema.names]
        if unknown:
            raise TypeError(f"{where} got an unexpected {unknown[0]!r}; it takes {', '.join(self._schema.names)}")
        return {name: self._schema.check(name, value) for name, value in settings.items()}

    def _install(self, structure, groups, step_count, state=()):
        """Check groups and arrays, make what state is missing, and take all over: the only place where that happens."""
        values = [{**self._defaults, **self._checked(settings, "a group of params")} for _, settings in groups]
        for group in values:
            self._check_group(group)
        if not all(arrays for arrays, _ in groups):
            raise ValueError("params must have at least one array, in each group, got none")
        params = [array for arrays, _ in groups for array in arrays]
        numbers = [i for i, (arrays, _) in enumerate(groups) for _ in arrays]
        check_parameters(structure.labels, params)

        known = [*state, *({} for _ in params[len(state) :])]
        state = [
            self._state_of(param, values[i], slots) for param, i, slots in zip(params, numbers, known, strict=True)
        ]
        stepper = self._new_stepper(structure, params, numbers, values, state, step_count)

        self._structure, self._params, self._state, self._stepper = structure, params, state, stepper
        self._numbers = numbers
        self._groups = [ParamGroup(self, i, arrays, values[i]) for i, (arrays, _) in enumerate(groups)]
        self._scheduled = any(callable(group["lr"]) for group in values)

    def _new_stepper(self, structure, params, numbers, values, state, step_count):
        layouts = [core.state_layout(self.rule, self._schema.core_values(group)[0])[0] for group in values]
        rows = [
            (label, i, param, [slots[name] for name in layouts[i]], slots["step"], slots.get("mu_product"))
            for label, i, param, slots in zip(structure.labels, numbers, params, state, strict=True)
        ]
        stepper = core.Stepper(self.rule, [self._schema.core_values(group) for group in values], rows)
        stepper.step_count = step_count
        return stepper

    def _state_of(self, param, values, known):
        """The state that a parameter needs under these hyper-parameters: from what is known of it, or new."""
        names, fill, carries_product = core.state_layout(self.rule, self._schema.core_values(values)[0])
        # A Fortran-ordered parameter gets state in the same order, so that they can be walked together.
        order = "F" if param.flags.f_contiguous and not param.flags.c_contiguous else "C"
        slots = {}
        for name in names:
            slots[name] = known.get(name)
            if slots[name] is None:
                slots[name] = np.zeros(param.shape, param.dtype, order)[...]  # a view: its owner can't be resized
                if fill != 0:
                    slots[name].fill(fill)
        slots["step"] = known.get("step", np.zeros((), np.int64)[...])
        if carries_product:
            slots["mu_product"] = known.get("mu_product", np.ones(())[...])
        return slots

    def _change_group(self, index, changes):
        with self._lock:
            group = self._groups[index]
            values = {**group._values, **self._checked(changes, "a parameter group")}
            self._check_group(values)
            was = self._schema.core_values(group._values)
            now = self._schema.core_values(values)
            if core.state_layout(self.rule, was[0])[0] == core.state_layout(self.rule, now[0])[0]:
                self._stepper.set_group(index, now)
            else:  # an option that changes which state there is
                all_values = [values if i == index else g._values for i, g in enumerate(self._groups)]
                state = [
                    self._state_of(param, values, slots) if i == index else slots
                    for param, i, slots in zip(self._params, self._numbers, self._state, strict=True)
                ]
                stepper = self._new_stepper(
                    self._structure, self._params, self._numbers, all_values, state, self.step_count
                )
                if self._bound is not None:
                    stepper.bind(self._bound)
                self._state, self._stepper = state, stepper
            group._values.update(values)
            self._scheduled = any(callable(g["lr"]) for g in self._groups)

    def _apply_schedules(self):
        """Tell the core what the schedules say of the step to come."""
        for i, group in enumerate(self._groups):
            if callable(group["lr"]):
                lr = self._schema.check("lr", group["lr"](self.step_count + 1))
                self._stepper.set_group(i, self._schema.core_values(group._values, lr))

    def _load(self, saved):
        if saved["rule"] != self.rule:
            raise ValueError(f"state_dict is of the rule {saved['rule']!r}, not {self.rule!r}")
        numbers = [list(group["params"]) for group in saved["param_groups"]]
        wanted = [group["params"] for group in self.state_dict()["param_groups"]]
        if numbers != wanted:
            raise ValueError(f"state_dict has groups of the arrays {numbers}, this optimizer {wanted}")
        groups, state = [], []
        for group, mine in zip(saved["param_groups"], self._groups, strict=True):
            settings = {name: value for name, value in group.items() if name != "params"}
            if settings.get("lr") is None:
                settings["lr"] = mine["lr"]
            missing = [name for name in self._schema.names if name not in settings]
            if missing:
                raise ValueError(f"state_dict lacks the hyper-parameters {missing}")
            try:
                values = self._checked(settings, "a group")
            except (TypeError, ValueError) as error:
                raise ValueError(f"state_dict: {error}") from error
            groups.append((mine["params"], values))
            for i in group["params"]:
                fresh = self._state_of(self._params[i], values, {})
                _fill(fresh, saved["state"][i], f"state_dict['state'][{i}]")
                state.append(fresh)
        step_count = integer("state_dict['step_count']", saved["step_count"], lower=0)
        bound = self._bound
        self._install(self._structure, groups, step_count, state)
        if bound is not None:
            self._stepper.bind(bound)


def _saved(slot):
    return slot.item() if slot.dtype == np.int64 else slot.copy()


def _fill(slots, saved, name):
    """Copy saved state into new state of the same names, shapes and dtypes."""
    if set(saved) != set(slots):
        raise ValueError(f"{name} must have {sorted(slots)}, got {sorted(saved)}")
    for key, slot in slots.items():
        if key == "step":
            slot[...] = integer(f"{name}['step']", saved[key], lower=0)
            continue
        value = np.asarray(saved[key])
        if value.shape != slot.shape or value.dtype != slot.dtype:
            raise ValueError(
                f"{name}[{key!r}] must have shape {slot.shape} and dtype {slot.dtype}, got {value.shape} and {value.dtype}"
            )
        slot[...] = value


def _restored(cls, parts, state_dict, rates):
    """An optimizer as it was pickled or copied, from the parameters of its groups."""
    optimizer = cls(parts[0])
    for part in parts[1:]:
        optimizer.add_param_group({"params": part})
    optimizer.load_state_dict(state_dict)
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
    return optimizer
