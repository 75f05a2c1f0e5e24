"""Keyword options that hold for a whole optimizer, not for each group: names, defaults and checks."""

from downslope.validation import choice, integer, number


def _optional(check, *bounds, **options):
    return lambda name, value: None if value is None else check(name, value, *bounds, **options)


# name -> (default, check)
_TABLE = {
    "clip_norm": (None, _optional(number, lower=0)),
    "nonfinite": ("propagate", lambda name, value: choice(name, value, ("propagate", "raise", "skip"))),
    "state_dtype": (None, lambda name, value: choice(name, value, (None, "bfloat16", "uint8"))),
    "rounding": ("nearest", lambda name, value: choice(name, value, ("nearest", "stochastic"))),
    "seed": (0, lambda name, value: integer(name, value, lower=0, upper=2**64 - 1)),
    "ema_decay": (None, _optional(number, lower=0, upper=1)),
}
DEFAULTS = {name: default for name, (default, _) in _TABLE.items()}


def checked(settings):
    """The settings in their normal form, after a look at each."""
    return {name: _TABLE[name][1](name, value) for name, value in settings.items()}
