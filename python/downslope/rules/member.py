"""One parameter of an optimizer, with what belongs to it."""

from typing import NamedTuple

import numpy as np

from downslope.rules.state import new_counters, restored_state, slot_arrays


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
    """The same after a copy: with counters that lie apart from the arrays again."""
    return [
        member._replace(state=restored_state(member.state, counters))
        for member, counters in zip(members, new_counters(len(members)), strict=True)
    ]
