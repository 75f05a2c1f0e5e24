"""State dicts of `torch.optim`, brought into the layout of ours."""

import numpy as np

# The rules that torch.optim has, and what the groups of each hold there besides lr and weight_decay: this tells them
# apart. The slots have the same names on both sides.
RULES = {
    "sgd": ("momentum", "dampening", "nesterov"),
    "adagrad": ("lr_decay", "initial_accumulator_value", "eps"),
    "adadelta": ("rho", "eps"),
    "rmsprop": ("alpha", "eps", "momentum", "centered"),
    "adam": ("betas", "eps", "amsgrad"),
    "adamax": ("betas", "eps"),
    "nadam": ("betas", "eps", "momentum_decay"),
    "radam": ("betas", "eps"),
}
# What changes no step: names, ways of executing the same mathematics, and the notebook of learning-rate schedulers,
# whose result is lr itself.
IGNORED = {
    *("params", "param_names", "foreach", "fused", "capturable", "differentiable"),
    *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"),
}


def is_from_torch(saved):
    """Whether a state dict is none of ours, which say whose they are."""
    return not {"rule", "step_count"} & set(saved)


def from_torch(saved, own, name):
    """The state dict `saved` of `torch.optim` in the layout of `own`, the one of the optimizer that is to take it.

    What PyTorch doesn't have, such as `grad_scale`, is as in `own`. Arrays that have not been stepped yet have no entry
    in the state. `name` is the optimizer's class, for messages.
    """
    rule = own["rule"]
    if rule not in RULES:
        raise ValueError(f"state_dict has no 'rule', and torch.optim, which saves none, has no {name}")
    groups = []
    for group, mine in zip(saved["param_groups"], own["param_groups"], strict=True):
        lacking = [key for key in ("lr", "weight_decay", *RULES[rule]) if key not in group]
        if lacking:
            raise ValueError(f"state_dict is not one of torch.optim's {name}: its groups lack {lacking}")
        groups.append({**mine, **{key: _settled(value) for key, value in group.items() if key not in IGNORED}})
    state = {}
    for number, slots in saved["state"].items():
        slots = {key: value for key, value in slots.items() if value is not None}
        if slots:
            state[number] = _converted(rule, slots)
    step_count = max((slots["step"] for slots in state.values()), default=0)
    return {**own, "param_groups": groups, "state": state, "step_count": step_count}


def _converted(rule, slots):
    """The slots of an array that has been stepped."""
    # PyTorch's SGD counts no steps. All that ours asks of the count is whether the buffer has been begun.
    step = 1 if rule == "sgd" else _settled(slots["step"])
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    slots = {**slots, "step": step}
    if "mu_product" in slots:  # float32 there by default
        slots["mu_product"] = np.asarray(slots["mu_product"], np.float64)
    return slots


def _settled(value):
    """A hyper-parameter or count as a Python number, or a tuple of them, where PyTorch has tensors without axes."""
    if isinstance(value, (list, tuple)):
        return tuple(_settled(item) for item in value)
    return value.item() if getattr(value, "ndim", None) == 0 else value
