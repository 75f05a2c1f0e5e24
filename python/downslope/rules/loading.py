"""What a state dict would make of an optimizer, checked before anything changes."""

from typing import NamedTuple

from downslope._extension import core
from downslope.rules import settings as shared_settings
from downslope.rules.state import MAX_STEPS, fill_array, fill_state, new_counters
from downslope.rules.torch_state import from_torch, is_from_torch
from downslope.validation import integer


class Loaded(NamedTuple):
    """All that a state dict sets."""

    members: list
    values: list  # of the groups
    settings: dict
    step_count: int
    skipped_steps: int


def load(optimizer, saved):
    """The contents of a state dict for this optimizer; ValueError or KeyError if they do not fit."""
    foreign = is_from_torch(saved)
    if not foreign and saved["rule"] != optimizer.rule:
        raise ValueError(f"state_dict is of the rule {saved['rule']!r}, not {optimizer.rule!r}")
    numbers = [list(group["params"]) for group in saved["param_groups"]]
    wanted = [optimizer._numbers_of_group(i) for i in range(len(optimizer._values))]
    if numbers != wanted:
        raise ValueError(f"state_dict has groups of the arrays {numbers}, this optimizer {wanted}")
    if foreign:
        saved = from_torch(saved, optimizer.state_dict(), type(optimizer).__name__)
    values = [
        _group(optimizer, group, mine) for group, mine in zip(saved["param_groups"], optimizer._values, strict=True)
    ]
    settings = _settings(optimizer, saved["settings"])
    members = []
    for number, (member, counters) in enumerate(
        zip(optimizer._members, new_counters(len(optimizer._members)), strict=True)
    ):
        state = optimizer._new_state(member.param, member.storage, values[member.group], counters)
        if not foreign or number in saved["state"]:  # PyTorch has no state before the first step
            fill_state(state, saved["state"][number], f"state_dict['state'][{number}]")
        average = member.average
        if average is not None:
            average = core.fixed_in_place(average.copy(order="K"))
            fill_array(average, saved["ema"][number], f"state_dict['ema'][{number}]")
        members.append(member._replace(state=state, average=average))
    counts = (
        integer(f"state_dict[{name!r}]", saved[name], lower=0, upper=MAX_STEPS)
        for name in ("step_count", "skipped_steps")
    )
    return Loaded(members, values, settings, *counts)


def _group(optimizer, saved, mine):
    """The hyper-parameters of a group; without an lr, which a schedule is saved as, the optimizer's own stays."""
    settings = {name: value for name, value in saved.items() if name != "params"}
    if settings.get("lr") is None:
        settings["lr"] = mine["lr"]
    missing = [name for name in mine if name not in settings]
    if missing:
        raise ValueError(f"state_dict lacks the hyper-parameters {missing}")
    try:
        checked = optimizer._checked(settings, "a group")
        optimizer._check_group(checked, optimizer.state_dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"state_dict: {error}") from error
    return checked


def _settings(optimizer, saved):
    """What holds for all groups, if this optimizer can have it."""
    try:
        settings = shared_settings.checked({name: saved[name] for name in shared_settings.DEFAULTS})
        optimizer._check_fixed(settings)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"state_dict: {error}") from error
    return settings
