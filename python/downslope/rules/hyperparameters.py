"""What a group of parameters may set: names, defaults and bounds, as the tables of the core have them."""

import math
from functools import cache

from downslope._extension import core
from downslope.validation import boolean, number, sequence


@cache
def schema(rule):
    """The `Schema` of a rule, made once."""
    return Schema(rule)


class Schema:
    """The hyper-parameters of one rule, followed by the keyword options that every optimizer takes."""

    def __init__(self, rule):
        self._hyper, self._options = core.rule_table(rule), core.options_table()
        self._rows = {}  # public name -> its rows: one, or one an element for a tuple such as betas
        for row in (*self._hyper, *self._options):
            self._rows.setdefault(row[0].partition("[")[0], []).append(row)

    @property
    def names(self):
        """All names, the rule's own first."""
        return list(self._rows)

    def default(self, name):
        """The value that `name` has if nobody sets it."""
        values = tuple(_from_core(kind, default) for _, default, kind, *_ in self._rows[name])
        return values if len(values) > 1 else values[0]

    def check(self, name, value):
        """`value` in its normal form, or an error. A callable `lr` is a schedule, and checked when it is called."""
        rows = self._rows[name]
        if name == "lr" and callable(value):
            return value
        if len(rows) == 1:
            return _check(value, *rows[0])
        elements = sequence(name, value, f"a sequence of {len(rows)} numbers")
        if len(elements) != len(rows):
            raise ValueError(f"{name} must have length {len(rows)}, got {len(elements)}")
        return tuple(_check(element, *row) for element, row in zip(elements, rows, strict=True))

    def core_values(self, group):
        """The values of a group as the core takes them: two lists, for the rule and for the options."""
        return self.hyper_values(group), [_to_core(group, row) for row in self._options]

    def hyper_values(self, group):
        """The first of them."""
        return [_to_core(group, row) for row in self._hyper]


def _check(value, name, default, kind, lower, upper, includes_upper):
    if kind == "flag":
        return boolean(name, value)
    if kind == "optional" and value is None:
        return None
    return number(name, value, lower, upper, includes_upper)


def _from_core(kind, value):
    if kind == "flag":
        return bool(value)
    return None if math.isnan(value) else value


def _to_core(group, row):
    name, bracket, index = row[0].partition("[")
    value = group[name][int(index[:-1])] if bracket else group[name]
    # None, and a schedule, whose value the core is told at each step, are NaN there.
    return math.nan if value is None or callable(value) else float(value)
