"""An optimizer in a file, and back."""

import os
from collections.abc import Mapping
from itertools import islice

from downslope.rules import OPTIMIZERS
from downslope.rules.structure import is_one_array, read_params
from downslope.rules.tree_file import check_class, read_tree, write_tree


def save_optimizer(optimizer, path):
    """What `Optimizer.save` does."""
    check_class(optimizer, OPTIMIZERS, "downslope.OPTIMIZERS")
    name = type(optimizer).__name__.lower()
    with optimizer._stepper:
        params = [
            {"label": label, "shape": member.param.shape, "dtype": member.storage}
            for label, member in zip(optimizer._structure.labels, optimizer._members, strict=True)
        ]
        defaults = {key: value for key, value in optimizer._defaults.items() if not callable(value)}
        saved = {"class": name, "params": params, "defaults": defaults, "state_dict": optimizer.state_dict()}
    write_tree(path, saved)


def load_optimizer(path, params, lr=None):
    """The optimizer that `Optimizer.save` wrote, to go on with the same bits.

    Parameters
    ----------
    path : str or path-like
        The file.
    params : ndarray, sequence or mapping of ndarray, or sequence of dicts
        The parameters, in the structure they had, since the file holds all but them. For groups, dicts, of which the
        arrays alone count, or a flat list; a mapping may be in another order.
    lr : float or callable, optional
        For all groups, instead of what was saved. A schedule is not saved, and must be given here again.

    Returns
    -------
    Optimizer
        Of the class that was saved, with its settings, state and counts.

    Raises
    ------
    ValueError
        If the file is damaged or something else, a newer version wrote it, number, names, shapes or dtypes of `params`
        do not fit, or `lr` was a schedule and is not given.
    TypeError, ValueError
        If `params` or `lr` cannot be used at all: see `Optimizer`.
    OSError
        If the file cannot be read.
    ImportError
        Without the library safetensors: ``pip install 'downslope[io]'``.

    See Also
    --------
    Optimizer.save : Writes the file.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = {"w": np.zeros(3), "b": np.zeros(1)}
    >>> opt = ds.Adam(p, lr=0.1)
    >>> opt.step({"w": np.ones(3), "b": np.ones(1)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "adam.safetensors")
    ...     opt.save(path)
    ...     opt = ds.load_optimizer(path, p)
    >>> opt
    Adam(2 arrays of 4 elements, step_count=1
        group 0: 2 arrays, lr=0.1)
    """
    saved = read_tree(path)
    path = os.fsdecode(path)
    name = saved.get("class") if isinstance(saved, dict) else None
    if name not in OPTIMIZERS:
        raise ValueError(f"{path} is not of an optimizer: class must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    given = {} if lr is None else {"lr": lr}
    groups = saved["state_dict"]["param_groups"]
    for group in groups:
        group.update(given)
        if group["lr"] is None:
            raise ValueError(f"lr was a schedule when {path} was saved, and schedules are not: give it again, lr=...")

    first, *more = _in_groups(params, saved["params"], [len(group["params"]) for group in groups], path)
    optimizer = OPTIMIZERS[name](first, **saved["state_dict"]["settings"], **given)
    for arrays in more:
        optimizer.add_param_group({"params": arrays})
    for member, expected in zip(optimizer._members, saved["params"], strict=True):
        if (member.param.shape, member.storage) != (expected["shape"], expected["dtype"]):
            raise ValueError(
                f"params{expected['label']} must have shape {expected['shape']} and dtype {expected['dtype']}, "
                f"as in {path}, got {member.param.shape} and {member.storage}"
            )
    try:
        optimizer.load_state_dict(saved["state_dict"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # Where groups that are added later start from.
    optimizer._defaults.update(optimizer._checked({**saved["defaults"], **given}, path))
    return optimizer


def _in_groups(params, expected, counts, path):
    """The parameters in the order and in the groups of the file, in the structure that each group is to be given in."""
    structure, groups = read_params(params)
    arrays = [array for group, _ in groups for array in group]
    if len(arrays) != len(expected):
        raise ValueError(f"params must have {len(expected)} arrays, as {path} has, got {len(arrays)}")
    given = [len(group) for group, _ in groups]
    if len(given) > 1 and given != counts:
        raise ValueError(f"params must have groups of {counts} arrays, as {path} has, got {given}")
    labels = [param["label"] for param in expected]
    missing, foreign = (
        [f"params{label}" for label in some if label not in others]
        for some, others in ((labels, set(structure.labels)), (structure.labels, set(labels)))
    )
    if missing:
        raise ValueError(
            f"params must have the names that {path} has: {missing[0]} is missing, {foreign[0]} unexpected"
        )
    if is_one_array(params):
        return [params]
    if not isinstance(params, Mapping):
        items = iter(arrays)
        return [list(islice(items, count)) for count in counts]
    by_label = dict(zip(structure.labels, params.items(), strict=True))
    items = iter([by_label[label] for label in labels])
    return [dict(islice(items, count)) for count in counts]
