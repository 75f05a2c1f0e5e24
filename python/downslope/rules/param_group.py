"""A group of parameters that share hyper-parameters."""

from collections.abc import MutableMapping


class ParamGroup(MutableMapping):
    """The hyper-parameters of one group: a mapping that checks what is set, and passes it on to the optimizer.

    The entry ``"params"`` lists the group's arrays and cannot be set; no entry can be deleted.
    """

    def __init__(self, optimizer, index):
        self._optimizer, self._index = optimizer, index

    def __getitem__(self, name):
        if name == "params":
            return [member.param for member in self._optimizer._members if member.group == self._index]
        return self._optimizer._values[self._index][name]

    def __setitem__(self, name, value):
        self.update({name: value})

    def update(self, *args, **kwargs):
        """Set several at once: all of them or, where one is refused, none."""
        changes = self._optimizer._checked(dict(*args, **kwargs), "a parameter group")
        self._optimizer._change_groups([self._index], changes)

    def __delitem__(self, name):
        raise TypeError("the entries of a parameter group cannot be deleted")

    def __iter__(self):
        return iter(("params", *self._optimizer._values[self._index]))

    def __len__(self):
        return 1 + len(self._optimizer._values[self._index])

    def __repr__(self):
        return f"ParamGroup({dict(self)!r})"
