"""The shape of what a user calls `params`: one array, a sequence or a mapping. Gradients and state come in the same."""

from collections.abc import Iterable, Mapping

import numpy as np


class OneArray:
    """`params` is an array."""

    labels = [""]

    def flatten(self, grads):
        """The list of gradients, in the order of `labels`."""
        if grads is None or (not isinstance(grads, np.ndarray) and isinstance(grads, (list, tuple, Mapping))):
            raise ValueError(f"grads must be one array, as params is, got {a_type(grads)}")
        return [grads]

    def unflatten(self, items):
        """The list `items` in the structure of the parameters."""
        return items[0]

    def extended(self, given, arrays):
        """The structure with more parameters at its end: the list `arrays`, given by the user as `given`."""
        raise ValueError("params is one array: pass a sequence, a mapping or groups to extend it later")


class ArraySequence:
    """`params` is a sequence of arrays, or groups, whose arrays count in the order of the groups."""

    def __init__(self, length):
        self.labels = [f"[{i}]" for i in range(length)]

    def flatten(self, grads):
        if not isinstance(grads, (list, tuple)):
            raise ValueError(f"grads must be a list or tuple of arrays, as params is, got {a_type(grads)}")
        if len(grads) != len(self.labels):
            raise ValueError(f"grads must have {len(self.labels)} arrays, as params has, got {len(grads)}")
        return list(grads)

    def unflatten(self, items):
        return list(items)

    def extended(self, given, arrays):
        return ArraySequence(len(self.labels) + len(arrays))


class ArrayMapping:
    """`params` is a mapping from names to arrays."""

    def __init__(self, names):
        self._names = list(names)
        self.labels = [f"[{name!r}]" for name in self._names]

    def flatten(self, grads):
        # dict stands first because asking an abstract class takes longer than a small step.
        if not isinstance(grads, (dict, Mapping)):
            raise ValueError(f"grads must be a mapping from names to arrays, as params is, got {a_type(grads)}")
        # What is no plain dict may make up what it lacks.
        if len(grads) == len(self._names) and (type(grads) is dict or all(name in grads for name in self._names)):
            try:
                return [grads[name] for name in self._names]
            except KeyError:
                pass
        missing = [f"{name!r} is missing (None leaves it alone)" for name in self._names if name not in grads]
        foreign = [f"{name!r} is unexpected" for name in grads if name not in self._names]
        raise ValueError(f"grads must have the names of params: {', '.join(missing + foreign)}")

    def unflatten(self, items):
        return dict(zip(self._names, items, strict=True))

    def extended(self, given, arrays):
        if not isinstance(given, Mapping):
            raise ValueError(f"params must be a mapping from new names to arrays, got {a_type(given)}")
        known = [name for name in given if name in self._names]
        if known:
            raise ValueError(f"params must have new names, got {known} again")
        return ArrayMapping([*self._names, *given])


def is_one_array(thing):
    """Whether it is an array, of whatever library, and no collection of them: one can iterate over a tensor, too.

    Whether its memory can be shared, the core finds out.
    """
    protocols = ("__dlpack__", "__array_interface__", "__array__")
    return isinstance(thing, np.ndarray) or any(hasattr(thing, name) for name in protocols)


def a_type(thing):
    """What it is, for a message."""
    return "one array" if is_one_array(thing) else f"a {type(thing).__name__}"


def read_params(params):
    """Take `params` apart.

    Returns
    -------
    structure
        One of the above.
    groups : list of (arrays, settings)
        The arrays of each group, not checked yet, and what the group sets.
    """
    if isinstance(params, Mapping):
        return ArrayMapping(params), [(list(params.values()), {})]
    if is_one_array(params):
        return OneArray(), [([params], {})]
    items = list_of_arrays("params", params)
    if not items or not all(isinstance(item, Mapping) for item in items):
        return ArraySequence(len(items)), [(items, {})]
    groups = [read_group(f"params[{i}]", group) for i, group in enumerate(items)]
    return ArraySequence(sum(len(arrays) for arrays, _ in groups)), groups


def read_group(name, group):
    """The arrays of a group dict and what else it sets."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise ValueError(f"{name} must be a mapping with an entry 'params', got {group!r}")
    settings = {key: value for key, value in group.items() if key != "params"}
    arrays = group["params"]
    if isinstance(arrays, Mapping):
        return list(arrays.values()), settings
    return ([arrays] if is_one_array(arrays) else list_of_arrays(f"{name}['params']", arrays)), settings


def list_of_arrays(name, arrays):
    """The arrays of an iterable."""
    if isinstance(arrays, (str, bytes)) or not isinstance(arrays, Iterable):
        raise TypeError(f"{name} must be a NumPy array, a sequence or a mapping of them, got {type(arrays).__name__}")
    return list(arrays)
