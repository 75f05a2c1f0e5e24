"""What all optimizers have in common: parameters, groups, state, and one call of the core a step."""

import inspect
import math
from types import MappingProxyType

from downslope._extension import core
from downslope.rules.arrays import check_parameter
from downslope.rules.hyperparameters import Schema
from downslope.rules.param_group import ParamGroup
from downslope.rules.state import (
    MAX_STEPS,
    fill_state,
    new_counters,
    new_state,
    restored_state,
    saved_state,
    slot_arrays,
)
from downslope.rules.structure import read_group, read_params
from downslope.validation import integer


class Optimizer:
    """Moves arrays downhill, in place, by one rule; the base of `Adam`, `SGD` and all others.

    Parameters
    ----------
    params : ndarray, sequence or mapping of ndarray, or sequence of dicts
        The arrays to update, float32 or float64, of any layout. Dicts are groups, ``{"params": arrays, "lr": 0.1,
        ...}``: what a group doesn't set is as given to the optimizer.
    lr : float or callable
        A number, or a schedule ``lr(step) -> float`` with step = 1, 2, ...: see `downslope.schedules`.
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
        If an array cannot be updated in place (read-only, overlapping itself or another one), or a hyper-parameter is
        out of range.

    Notes
    -----
    A gradient has its parameter's shape and a dtype that casts safely to the parameter's. A call that raises has
    changed nothing. Results are the same bits for every number of threads, instruction set and memory layout, and equal
    those of `downslope.reference`. One optimizer may be used from several threads: its calls take turns.
    """

    rule = None  # the core's name for the rule
    source = None  # who published it, and when

    def __init_subclass__(cls, **kwargs):
        """Show the keyword options in the signature of each rule, so that help and completion know them."""
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.__init__)
        known = [parameter for name, parameter in signature.parameters.items() if name not in ("self", "options")]
        if cls.rule is None or "options" not in signature.parameters:
            return
        schema = Schema(cls.rule)
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=schema.default(name))
            for name in schema.names
            if name not in signature.parameters
        ]
        cls.__signature__ = inspect.Signature([*known, *options])

    def __setattr__(self, name, value):
        if name != "lr" and name in getattr(self, "_defaults", ()):
            raise AttributeError(f"{name} is set in the groups: opt.param_groups[0][{name!r}] = ...")
        super().__setattr__(name, value)

    def __init__(self, params, **hyper):
        if self.rule is None:
            raise TypeError("Optimizer is only the base of the rules: make an Adam, an SGD, ...")
        self._schema = Schema(self.rule)
        defaults = {name: self._schema.default(name) for name in self._schema.names}
        self._defaults = {**defaults, **self._checked(hyper, f"{type(self).__name__}()")}
        self._stepper = core.Stepper(self.rule)
        self._params, self._state = [], []
        self._numbers = []  # of the group of each parameter
        self._values = []  # hyper-parameters of each group
        self._extend(*read_params(params))

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
        if grads is None:
            done = self._stepper.step_bound()
        else:
            done = self._stepper.step(self._structure.flatten(grads))
        if not done:
            self._scheduled_step(grads)

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
        with self._stepper:
            self._stepper.bind(self._structure.flatten(grads))

    # ---- what there is to see ----

    @property
    def params(self):
        """The parameters, in the structure they were given in; for groups, a flat list."""
        return self._structure.unflatten(self._params)

    @property
    def state(self):
        """For each parameter, in the structure of `params`: a mapping from slot name to array, and its ``"step"``.

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
        rates = [values["lr"] for values in self._values]
        if any(rate != rates[0] for rate in rates):
            raise ValueError(f"lr differs between the groups, {rates}: look into param_groups")
        return rates[0]

    @lr.setter
    def lr(self, value):
        with self._stepper:
            for i in range(len(self._values)):
                self._change_group(i, {"lr": value})

    @property
    def param_groups(self):
        """The groups: mappings of hyper-parameters, which check what is set and heed it from the next step on."""
        return [ParamGroup(self, i) for i in range(len(self._values))]

    def __repr__(self):
        elements = sum(param.size for param in self._params)
        head = f"{len(self._params)} array{'s' * (len(self._params) != 1)} of {elements:,} elements"
        lines = [f"{head}, step_count={self.step_count}"]
        for i, values in enumerate(self._values):
            arrays = self._numbers.count(i)
            default = {name: self._schema.default(name) for name in values if name != "lr"}
            changed = [f"{name}={value!r}" for name, value in values.items() if value != default.get(name)]
            lines.append(f"group {i}: {arrays} array{'s' * (arrays != 1)}, {', '.join(changed)}")
        text = "\n    ".join(lines)
        return f"{type(self).__name__}({text})"

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
        with self._stepper:
            arrays, settings = read_group("group", group)
            self._extend(self._structure.extended(group["params"], arrays), [(arrays, settings)])

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
        with self._stepper:
            groups = []
            for i, values in enumerate(self._values):
                lr = None if callable(values["lr"]) else values["lr"]
                groups.append({**values, "lr": lr, "params": self._numbers_of_group(i)})
            return {
                "rule": self.rule,
                "step_count": self.step_count,
                "state": {i: saved_state(slots) for i, slots in enumerate(self._state)},
                "param_groups": groups,
            }

    def load_state_dict(self, state_dict):
        """Go on from where `state_dict()` was taken, with this optimizer's own parameters.

        Parameters
        ----------
        state_dict : dict
            Of an optimizer of the same rule with arrays of the same shapes and dtypes in the same groups. Where its lr
            is None, the lr of this optimizer stays.

        Raises
        ------
        ValueError
            If it doesn't fit; then nothing is changed.

        Notes
        -----
        The arrays in `state` are new ones afterwards.
        """
        with self._stepper:
            try:
                self._load(state_dict)
            except KeyError as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: it lacks {error}") from error
            except (IndexError, TypeError, AttributeError) as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: {error}") from error

    def __copy__(self):
        raise TypeError("a shallow copy would move the same parameters with the same state: use copy.deepcopy")

    def __getstate__(self):
        """Everything but the core's captured pointers, and with them the bound gradients."""
        with self._stepper:
            state = {name: value for name, value in self.__dict__.items() if name != "_stepper"}
            return {**state, "step_count": self.step_count}

    def __setstate__(self, state):
        step_count = state.pop("step_count")
        self.__dict__.update(state)
        self._stepper = core.Stepper(self.rule)
        restored = restored_state(self._state)
        self._install(self._structure, self._params, self._numbers, self._values, restored, step_count)

    # ---- inside ----

    def _check_group(self, values):
        """For rules whose hyper-parameters must also fit each other."""

    def _checked(self, settings, where):
        """The settings in their normal form, after a look at each."""
        unknown = [name for name in settings if name not in self._schema.names]
        if unknown:
            raise TypeError(f"{where} got an unexpected {unknown[0]!r}; it takes {', '.join(self._schema.names)}")
        return {name: self._schema.check(name, value) for name, value in settings.items()}

    def _numbers_of_group(self, index):
        return [number for number, i in enumerate(self._numbers) if i == index]

    def _extend(self, structure, groups):
        """Check new groups, of arrays and settings, and take them in behind those that are there."""
        if not groups or not all(arrays for arrays, _ in groups):
            raise ValueError("params must have at least one array, in each group, got none")
        params, numbers, values = list(self._params), list(self._numbers), list(self._values)
        for arrays, settings in groups:
            params += arrays
            numbers += [len(values)] * len(arrays)
            values.append({**self._defaults, **self._checked(settings, "a group of params")})
            self._check_group(values[-1])
        for label, param in zip(structure.labels, params, strict=True):  # before state is made that fits them
            check_parameter(f"params{label}", param)
        state = list(self._state)
        added = slice(len(state), None)
        counters = new_counters(len(params[added]))
        for param, i, known in zip(params[added], numbers[added], counters, strict=True):
            state.append(self._new_state(param, values[i], known))
        self._install(structure, params, numbers, values, state, self.step_count)

    def _new_state(self, param, values, known):
        return new_state(self.rule, self._schema.core_values(values)[0], param, known)

    def _install(self, structure, params, numbers, values, state, step_count):
        """Hand everything, which has been checked, to the core, and remember it."""
        rows = [
            (label, i, param, slot_arrays(slots), slots["step"], slots.get("mu_product"))
            for label, i, param, slots in zip(structure.labels, numbers, params, state, strict=True)
        ]
        self._stepper.install([self._schema.core_values(group) for group in values], rows, step_count)
        self._structure, self._params, self._numbers = structure, params, numbers
        self._values, self._state = values, state

    def _change_group(self, index, changes):
        """Check and set hyper-parameters of a group; with them, the state may need more slots or fewer."""
        with self._stepper:
            new = {**self._values[index], **self._checked(changes, "a parameter group")}
            self._check_group(new)
            values = [new if i == index else group for i, group in enumerate(self._values)]
            if self._stepper.set_group(index, self._schema.core_values(new)):
                self._values = values
                return
            state = [
                self._new_state(param, values[i], slots) if i == index else slots
                for param, i, slots in zip(self._params, self._numbers, self._state, strict=True)
            ]
            self._install(self._structure, self._params, self._numbers, values, state, self.step_count)

    def _scheduled_step(self, grads):
        """A step with the learning rates that the schedules give for it."""
        with self._stepper:
            done = False
            while not done:  # a schedule may set another one where the rate was fixed
                rates = []
                while len(rates) < len(self._values):  # and it may add a group
                    lr = self._values[len(rates)]["lr"]
                    rates.append(self._schema.check("lr", lr(self.step_count + 1)) if callable(lr) else math.nan)
                if grads is None:
                    done = self._stepper.step_bound(rates)
                else:
                    done = self._stepper.step(self._structure.flatten(grads), rates)

    def _load(self, saved):
        if saved["rule"] != self.rule:
            raise ValueError(f"state_dict is of the rule {saved['rule']!r}, not {self.rule!r}")
        numbers = [list(group["params"]) for group in saved["param_groups"]]
        wanted = [self._numbers_of_group(i) for i in range(len(self._values))]
        if numbers != wanted:
            raise ValueError(f"state_dict has groups of the arrays {numbers}, this optimizer {wanted}")
        groups, state = [], []
        for group, mine in zip(saved["param_groups"], self._values, strict=True):
            settings = {name: value for name, value in group.items() if name != "params"}
            if settings.get("lr") is None:
                settings["lr"] = mine["lr"]
            missing = [name for name in self._schema.names if name not in settings]
            if missing:
                raise ValueError(f"state_dict lacks the hyper-parameters {missing}")
            try:
                groups.append(self._checked(settings, "a group"))
                self._check_group(groups[-1])
            except (TypeError, ValueError) as error:
                raise ValueError(f"state_dict: {error}") from error
        counters = new_counters(len(self._params))
        for number, (param, i) in enumerate(zip(self._params, self._numbers, strict=True)):
            state.append(self._new_state(param, groups[i], counters[number]))
            fill_state(state[-1], saved["state"][number], f"state_dict['state'][{number}]")
        step_count = integer("state_dict['step_count']", saved["step_count"], lower=0, upper=MAX_STEPS)
        self._install(self._structure, self._params, self._numbers, groups, state, step_count)
