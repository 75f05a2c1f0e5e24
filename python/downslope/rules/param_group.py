"""A group of parameters that share hyper-parameters."""

from collections.abc import MutableMapping


class ParamGroup(MutableMapping):
    """The hyper-parameters of one group: a mapping that checks what is set, and passes it on to the optimizer.

    The entry ``"params"`` lists the group's arrays and cannot be set; other entries cannot be deleted.
    """

    def __init__(self, optimizer, index, arrays, values):
        self._optimizer, self._index, self._arrays, self._values = optimizer, index, arrays, values

    def __getitem__(self, name):
        return list(self._arrays) if name == "params" else self._values[name]

    def __setitem__(self, name, value):
        self.update({name: value})

    def update(self, *args, **kwargs):
        """Set several at once: all of them or, where one is refused, none."""
        self._optimizer._change_group(self._index, dict(*args, **kwargs))

    def __delitem__(self, name):
        raise TypeError("the entries of a parameter group cannot be deleted")

    def __iter__(self):
        return iter(("params", *self._values))

    def __len__(self):
        return 1 + len(self._values)

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"{len(self._arrays)} array{'s' * (len(self._arrays) != 1)}, {settings}"
