"""What all optimizers have in common: parameters, groups, state, and one call of the core a step."""

import inspect
import math
from types import MappingProxyType

import numpy as np

from downslope._extension import core
from downslope.rules import settings as shared_settings
from downslope.rules.arrays import compute_dtype, computed, parameter_array, stored
from downslope.rules.hyperparameters import schema
from downslope.rules.loading import load
from downslope.rules.member import Member, restored
from downslope.rules.param_group import ParamGroup
from downslope.rules.state import new_counters, new_state, saved_state
from downslope.rules.structure import read_group, read_params


class Optimizer:
    """Moves arrays downhill, in place, by one rule; the base of `Adam`, `SGD` and all others.

    Parameters
    ----------
    params : array, sequence or mapping of arrays, or sequence of dicts
        The arrays to update, of any layout: float32, float64, or float16 and bfloat16 (of ml_dtypes), which are
        computed in float32; NumPy's, or other arrays on the CPU that share their memory by ``__dlpack__`` or
        ``__array_interface__``, such as detached PyTorch tensors. Dicts are groups, ``{"params": arrays, "lr": 0.1,
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
    clip_value : float, optional
        Elements of the gradient are then cut off at plus and minus this.
    clip_norm : float, optional
        Next, if the norm of all gradients together exceeds this, they are multiplied by ``clip_norm / norm``.
    nonfinite : {"propagate", "raise", "skip"}
        What a NaN or an infinity in a gradient does: go its way, as in NumPy; raise `FloatingPointError`; or let `step`
        do nothing but count `skipped_steps`. In the last two nothing moves.
    state_dtype : {None, "bfloat16", "uint8"}
        How state is kept: as parameters are computed (None), in 2 bytes a number or in 1. Rounding is stochastic.
    rounding : {"nearest", "stochastic"}
        Of float16 and bfloat16 parameters.
    seed : int, default 0
        Of stochastic rounding. The random bits are a function of seed, array, slot, step count and element.
    ema_decay : float, optional
        Keeps an average of the parameters, `ema`: after each step ``e += (1 - ema_decay) * (p - e)``.

    Raises
    ------
    TypeError
        If a parameter is no array of such a dtype whose memory can be shared, or a keyword is unknown.
    ValueError
        If an array cannot be updated in place (read-only, overlapping itself or another one), or a hyper-parameter is
        out of range.

    Notes
    -----
    A gradient has its parameter's shape and a dtype that casts safely to the one in which the parameter is computed. A
    call that raises has changed nothing. The options from `clip_norm` on hold for all groups. Results are the same bits
    for every number of threads, instruction set and memory layout, and equal those of `downslope.reference`. One
    optimizer may be used from several threads: its calls take turns.

    An array of another library is updated where it is, without a copy. The optimizer holds a NumPy array that keeps the
    memory alive: that is what `params` shows (of bfloat16 the bits, in uint16), and what pickle and deepcopy copy. If
    the other array is given new memory (in PyTorch by ``w.data = ...``), the optimizer goes on with the old, as it does
    where a name is bound to another array; nothing may free the memory (PyTorch refuses to ``w.resize_(...)`` it, but
    ``w.share_memory_()`` does). DLPack before 1.0 cannot say that memory may be written: what it exports counts as
    read-only.
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
        table = schema(cls.rule)
        defaults = {**{name: table.default(name) for name in table.names}, **shared_settings.DEFAULTS}
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in defaults.items()
            if name not in signature.parameters
        ]
        cls.__signature__ = inspect.Signature([*known, *options])

    def __getattr__(self, name):
        if name in shared_settings.DEFAULTS:
            return self._settings[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        if name in shared_settings.DEFAULTS:
            return self._change_settings({name: value})
        if name != "lr" and name in getattr(self, "_defaults", ()):
            raise AttributeError(f"{name} is set in the groups: opt.param_groups[0][{name!r}] = ...")
        super().__setattr__(name, value)

    def __init__(self, params, **hyper):
        if self.rule is None:
            raise TypeError("Optimizer is only the base of the rules: make an Adam, an SGD, ...")
        self._schema = schema(self.rule)
        defaults = {name: self._schema.default(name) for name in self._schema.names}
        given = {name: hyper.pop(name) for name in shared_settings.DEFAULTS if name in hyper}
        self._defaults = {**defaults, **self._checked(hyper, f"{type(self).__name__}()")}
        self._settings = {**shared_settings.DEFAULTS, **shared_settings.checked(given)}
        self._stepper = core.Stepper(self.rule)
        self._members = []
        self._values = []  # hyper-parameters of each group
        self._extend(*read_params(params))

    # ---- the step ----

    def step(self, grads=None):
        """Update the parameters by their gradients.

        Parameters
        ----------
        grads : array, RowGrad, sequence or mapping of them, optional
            In the structure of the parameters; for groups, a flat list in their order. They may be arrays of other
            libraries, as the parameters may, and read-only. A gradient of None leaves its array, the array's state and
            its step count alone. Without `grads`, the mean of those that `accumulate` has added up is used, and then
            forgotten; or else the bound ones.

        Raises
        ------
        TypeError
            If a gradient is no array of a real floating dtype whose memory can be shared, or does not cast safely to
            the one in which its parameter is computed.
        ValueError
            If structure or shapes differ, or a gradient shares memory with a parameter or its state.
        FloatingPointError
            If a gradient is not finite, with ``nonfinite="raise"``.
        RuntimeError
            If there are no gradients, passed or bound; or if some are passed while others have been accumulated.

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
            if not self._stepper.step_bound():
                self._scheduled_step(self._stepper.step_bound)
        else:
            grads = self._structure.flatten(grads)
            if not self._stepper.step(grads):
                self._scheduled_step(lambda rates: self._stepper.step(grads, rates))

    def bind(self, grads):
        """Fix the arrays that hold the gradients, for `step()` without arguments: the fastest call.

        Parameters
        ----------
        grads : as for `step`
            Write new gradients into these arrays before each step. (In PyTorch, ``zero_grad(set_to_none=False)`` keeps
            them.)

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

    def accumulate(self, grads=None):
        """Add gradients up, for a `step()` by their mean: a large batch in parts.

        Parameters
        ----------
        grads : as for `step`, optional
            Without them, the bound ones are added. The sums are in the dtype in which the parameter is computed, so
            float16 gradients lose nothing. None adds nothing; the mean is over all calls nevertheless, and only an
            array that got nothing in any of them is left alone.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `step` does. A `RowGrad` cannot be accumulated (`ValueError`).

        Notes
        -----
        `step()` forgets the sums when it has applied them, and when ``nonfinite="skip"`` skips them; where it raises,
        they stay. `zero_grad()` forgets them at once. Sums are no part of `state_dict`.

        Examples
        --------
        >>> import numpy as np
        >>> import downslope as ds
        >>> p = np.zeros(2)
        >>> opt = ds.SGD(p, lr=1.0)
        >>> opt.accumulate(np.array([1.0, 2.0]))
        >>> opt.accumulate(np.array([3.0, 4.0]))
        >>> opt.step()
        >>> p
        array([-2., -3.])
        """
        with self._stepper:
            given = self._stepper.bound if grads is None else self._structure.flatten(grads)
            sums = self._stepper.sums
            buffers = [
                np.empty(member.param.shape, compute_dtype(member.storage))
                if total is None and grad is not None
                else None
                for member, total, grad in zip(self._members, sums, given or sums, strict=True)
            ]
            self._stepper.accumulate(None if grads is None else given, buffers)

    def zero_grad(self):
        """Forget what `accumulate` has added up. Bound gradients are the caller's and stay as they are."""
        self._stepper.forget_sums()

    def swap_ema(self):
        """Put the average in place of the parameters, to evaluate on it, and afterwards restore their very bits.

        Raises
        ------
        RuntimeError
            If there is no average; or if it is nested, or `step` or a copy is asked for inside.

        Examples
        --------
        >>> import numpy as np
        >>> import downslope as ds
        >>> p = np.array([1.0, 2.0])
        >>> opt = ds.SGD(p, lr=1.0, ema_decay=0.5)
        >>> opt.step(np.array([1.0, 1.0]))
        >>> with opt.swap_ema():
        ...     print(p)
        [0.5 1.5]
        >>> p
        array([0., 1.])
        """
        if self.ema_decay is None:
            raise RuntimeError("swap_ema() without an average: make the optimizer with ema_decay")
        return self._displaced("swap_ema()", lambda member: member.average)

    # ---- what there is to see ----

    @property
    def params(self):
        """The parameters, in the structure they were given in; for groups, a flat list."""
        return self._structure.unflatten([member.param for member in self._members])

    @property
    def state(self):
        """For each parameter, in the structure of `params`: a mapping from slot name to array, and its ``"step"``.

        The arrays are the optimizer's own: what is written into them counts. With ``state_dtype="bfloat16"`` they hold
        the bits of the numbers, in uint16; with ``"uint8"`` codes, and ``<slot>_scale`` one scale for each 256.
        """
        return self._structure.unflatten([MappingProxyType(member.state) for member in self._members])

    @property
    def step_count(self):
        """How many calls of `step` have moved anything."""
        return self._stepper.step_count

    @property
    def skipped_steps(self):
        """How many calls of `step` have moved nothing because ``nonfinite="skip"`` met a NaN or an infinity."""
        return self._stepper.skipped_steps

    @property
    def last_grad_norm(self):
        """The norm of all gradients in the last step that moved anything, scaled but not clipped by it, or None.

        `clip_norm` needs it, and ``nonfinite="raise"`` and ``"skip"`` have it for nothing.
        """
        return self._stepper.last_grad_norm

    @property
    def ema(self):
        """The moving average of the parameters, in their structure, float32 or wider; None without `ema_decay`.

        The arrays are the optimizer's own.
        """
        if self.ema_decay is None:
            return None
        return self._structure.unflatten([member.average for member in self._members])

    @property
    def lr(self):
        """The learning rate, as set: a number or a schedule. Setting it sets it in all groups, also in later ones."""
        rates = [values["lr"] for values in self._values]
        if any(rate != rates[0] for rate in rates):
            raise ValueError(f"lr differs between the groups, {rates}: look into param_groups")
        return rates[0]

    @lr.setter
    def lr(self, value):
        with self._stepper:
            changes = {"lr": self._schema.check("lr", value)}
            self._change_groups(range(len(self._values)), changes, _defaults={**self._defaults, **changes})

    @property
    def param_groups(self):
        """The groups: mappings of hyper-parameters, which check what is set and heed it from the next step on."""
        return [ParamGroup(self, i) for i in range(len(self._values))]

    def __repr__(self):
        elements = sum(member.param.size for member in self._members)
        head = f"{len(self._members)} array{'s' * (len(self._members) != 1)} of {elements:,} elements"
        lines = [f"{head}, step_count={self.step_count}"]
        lines[0] += "".join(
            f", {name}={value!r}" for name, value in self._settings.items() if value != shared_settings.DEFAULTS[name]
        )
        for i, values in enumerate(self._values):
            arrays = len(self._numbers_of_group(i))
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
            ``"param_groups"`` lists the hyper-parameters; and with ``"rule"``, ``"settings"`` (what holds for all
            groups), ``"step_count"``, ``"skipped_steps"`` and ``"ema"``, the number of each array to its average.

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
                "settings": dict(self._settings),
                "step_count": self.step_count,
                "skipped_steps": self.skipped_steps,
                "ema": {
                    i: member.average.copy() for i, member in enumerate(self._members) if member.average is not None
                },
                "state": {i: saved_state(member.state) for i, member in enumerate(self._members)},
                "param_groups": groups,
            }

    def load_state_dict(self, state_dict):
        """Go on from where `state_dict()` was taken, with this optimizer's own parameters.

        Parameters
        ----------
        state_dict : dict
            Of an optimizer of the same rule with arrays of the same shapes and dtypes in the same groups. Its settings,
            of groups and of all, replace those of this optimizer; only where its lr is None, the lr stays. It may also
            come from `torch.optim`, with its tensors as NumPy arrays or on the CPU: what PyTorch doesn't have stays.

        Raises
        ------
        ValueError
            If it doesn't fit; then nothing is changed.

        Notes
        -----
        The arrays in `state` are new ones afterwards.

        From PyTorch, every hyper-parameter that its state dict has is taken over; `step_count` becomes the largest of
        the arrays' counts. Its SGD counts no steps: an array with a momentum buffer gets the count 1. Flags such as
        ``fused``, which do not change what a step does, are ignored; anything else that is unknown here is an error.
        """
        with self._stepper:
            try:
                self._load(state_dict)
            except KeyError as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: it lacks {error}") from error
            except (IndexError, TypeError, AttributeError, OverflowError) as error:
                raise ValueError(f"state_dict is not one of {type(self).__name__}: {error}") from error

    def save(self, path):
        """Write everything but the parameters to a file, for `load_optimizer` to go on from.

        Parameters
        ----------
        path : str or path-like
            A file in the safetensors format, which is written whole or, if that fails, left as it was.

        Raises
        ------
        TypeError
            If this is a subclass of one's own.
        OSError
            If the file cannot be written.
        ImportError
            Without the library safetensors: ``pip install 'downslope[io]'``.

        See Also
        --------
        load_optimizer : Reads the file.

        Notes
        -----
        A schedule is not saved: `load_optimizer` must be given it again.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import downslope as ds
        >>> opt = ds.SGD(np.ones(3), lr=0.1, momentum=0.9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     opt.save(os.path.join(folder, "sgd.safetensors"))
        ...     os.listdir(folder)
        ['sgd.safetensors']
        """
        from downslope.rules.checkpoint import save_optimizer  # it imports all rules, and they this file

        save_optimizer(self, path)

    def __copy__(self):
        raise TypeError("a shallow copy would move the same parameters with the same state: use copy.deepcopy")

    def __getstate__(self):
        """Everything but the core's captured pointers, and with them the bound gradients.

        The arrays are the live ones: no other thread should step while they are copied.
        """
        with self._stepper:
            self._stepper.check_at_home("a copy")
            state = {name: value for name, value in self.__dict__.items() if name != "_stepper"}
            sums = self._stepper.accumulated, list(self._stepper.sums)
            return {**state, "step_count": self.step_count, "skipped_steps": self.skipped_steps, "sums": sums}

    def __setstate__(self, state):
        step_count, skipped_steps, sums = (state.pop(name) for name in ("step_count", "skipped_steps", "sums"))
        self.__dict__.update(state)
        self._stepper = core.Stepper(self.rule)
        self._install(self._structure, restored(self._members), self._values, self._settings, step_count, skipped_steps)
        self._stepper.set_sums(*sums)

    # ---- inside ----

    @staticmethod
    def _check_group(values, state_dtype):
        """For rules whose hyper-parameters must also fit each other."""

    def _checked(self, settings, where):
        """The settings in their normal form, after a look at each."""
        unknown = [name for name in settings if name not in self._schema.names]
        if unknown:
            if unknown[0] in shared_settings.DEFAULTS:
                raise TypeError(
                    f"{where} got {unknown[0]!r}, which holds for all groups: "
                    f"pass it to {type(self).__name__}(), or set it as an attribute, opt.{unknown[0]} = ..."
                )
            known = [*self._schema.names, *(shared_settings.DEFAULTS if where.endswith("()") else ())]
            raise TypeError(f"{where} got an unexpected {unknown[0]!r}; it takes {', '.join(known)}")
        return {name: self._schema.check(name, value) for name, value in settings.items()}

    def _numbers_of_group(self, index):
        return [number for number, member in enumerate(self._members) if member.group == index]

    def _extend(self, structure, groups):
        """Check new groups, of arrays and settings, and take them in behind those that are there."""
        if not groups or not all(arrays for arrays, _ in groups):
            raise ValueError("params must have at least one array, in each group, got none")
        values, added = list(self._values), []  # pairs of parameter and group
        for arrays, settings in groups:
            added += [(array, len(values)) for array in arrays]
            values.append({**self._defaults, **self._checked(settings, "a group of params")})
            self._check_group(values[-1], self.state_dtype)
        # Before state is made that fits them.
        labels = structure.labels[len(self._members) :]
        read = [parameter_array(f"params{label}", array) for label, (array, _) in zip(labels, added, strict=True)]
        members = list(self._members)
        for (param, storage), (_, i), counters in zip(read, added, new_counters(len(added)), strict=True):
            state = self._new_state(param, storage, values[i], counters)
            average = None if self.ema_decay is None else core.fixed_in_place(computed(param, storage))
            members.append(Member(param, storage, i, state, average))
        self._install(structure, members, values, self._settings, self.step_count, self.skipped_steps)

    def _new_state(self, param, storage, values, known):
        hyper = self._schema.core_values(values)[0]
        return new_state(self.rule, hyper, param, storage, self.state_dtype, known)

    def _install(self, structure, members, values, settings, *counts):
        """Hand everything, which has been checked, to the core, and remember it."""
        rows = [member.core_row(label) for label, member in zip(structure.labels, members, strict=True)]
        facts = {"_structure": structure, "_members": members, "_values": values, "_settings": settings}
        core_values = [self._schema.core_values(group) for group in values]
        core.in_one_go(
            (self._stepper.install, core_values, rows, _core_settings(settings), *counts), (self.__dict__.update, facts)
        )

    def _change_groups(self, indices, changes, **facts):
        """Set hyper-parameters of these groups, which have been checked one by one; with them, the state may need more
        slots or fewer."""
        with self._stepper:
            values = list(self._values)
            for i in indices:
                values[i] = {**values[i], **changes}
                self._check_group(values[i], self.state_dtype)
            core_changes = [(i, self._schema.core_values(values[i])) for i in indices]
            facts = {"_values": values, **facts}
            if core.in_one_go((self._stepper.set_groups, core_changes), (self.__dict__.update, facts)):
                return
            members = [
                member._replace(state=self._new_state(member.param, member.storage, values[member.group], member.state))
                if member.group in indices
                else member
                for member in self._members
            ]
            self._install(self._structure, members, values, self._settings, self.step_count, self.skipped_steps)

    def _change_settings(self, changes):
        """Check and set options that hold for all groups."""
        changes = shared_settings.checked(changes)
        with self._stepper:
            self._check_fixed(changes)
            settings = {**self._settings, **changes}
            facts = {"_settings": settings}
            core.in_one_go((self._stepper.configure, _core_settings(settings)), (self.__dict__.update, facts))

    def _check_fixed(self, settings):
        """Raise AttributeError if these settings ask for other state than there is."""
        if settings.get("state_dtype", self.state_dtype) != self.state_dtype:
            raise AttributeError(
                f"state_dtype must stay {self.state_dtype!r}, got {settings['state_dtype']!r}: make another optimizer"
            )
        if (settings.get("ema_decay", self.ema_decay) is None) != (self.ema_decay is None):
            raise AttributeError(
                f"ema_decay must stay {'None' if self.ema_decay is None else 'a number'}, got "
                f"{settings['ema_decay']!r}: whether there is an average is fixed when an optimizer is made"
            )

    def _displaced(self, what, values):
        """With each parameter at ``values(member)``; afterwards with its very bits again. `step` is locked out."""

        def places():
            return [stored(values(member), member.param, member.storage) for member in self._members]

        return core.Displacement(self._stepper, what, places)

    def _scheduled_step(self, step):
        """A step, `step(rates)`, with the learning rates that the schedules give for it."""
        with self._stepper:
            done = False
            while not done:  # a schedule may set another one where the rate was fixed
                rates = []
                while len(rates) < len(self._values):  # and it may add a group
                    lr = self._values[len(rates)]["lr"]
                    rates.append(self._rate(lr) if callable(lr) else math.nan)
                done = step(rates)

    def _rate(self, schedule):
        """What the schedule gives for the next step."""
        step = self.step_count + 1
        rate = schedule(step)
        if callable(rate):
            raise TypeError(f"lr({step}) must be a number, got {rate!r}")
        return self._schema.check("lr", rate)

    def _load(self, saved):
        self._install(self._structure, *load(self, saved))


def _core_settings(settings):
    """Those that the core takes, in its order."""
    return tuple(settings[name] for name in ("clip_norm", "ema_decay", "nonfinite", "rounding", "seed"))
