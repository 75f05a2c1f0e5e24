"""Loops over the objective. So far: mini-batches."""

from downslope.minimize.minibatches import minibatches

__all__ = ["minibatches"]
