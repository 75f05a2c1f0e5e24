"""One parameter of an optimizer, with what belongs to it."""

from typing import NamedTuple

import numpy as np

from downslope._extension import core
from downslope.rules.state import new_counters, restored_state, slot_arrays, writeable


class Member(NamedTuple):
    """One parameter of an optimizer, with what belongs to it."""

    param: np.ndarray
    storage: str  # how it stores its numbers
    group: int
    state: dict  # slot name -> array
    average: np.ndarray | None  # of the parameter

    def core_row(self, label):
        """What the core captures."""
        counts = self.state["step"], self.state.get("mu_product")
        return label, self.group, self.param, self.storage, slot_arrays(self.state), self.average, *counts


def restored(members):
    """The same after a copy: with counters that lie apart from the arrays again, and memory that may be written."""
    return [
        member._replace(
            param=writeable(member.param),
            state=restored_state(member.state, counters),
            average=None if member.average is None else core.fixed_in_place(writeable(member.average)),
        )
        for member, counters in zip(members, new_counters(len(members)), strict=True)
    ]
