"""What TONGA and the diagonal Fisher share: arrays of any shape, of which gradients are given by name."""

from downslope.preconditioners.base import Preconditioner, floating
from downslope.validation import number


class ArrayPreconditioner(Preconditioner):
    """Directions array by array."""

    def precondition(self, grads):
        """The gradients times the inverse of the damped curvature.

        Parameters
        ----------
        grads : mapping
            The name of each array -> its gradient, of the array's shape.

        Returns
        -------
        dict
            In the same structure; float32 where a gradient is, and float64 otherwise. What is not finite propagates.

        Raises
        ------
        TypeError
            If a gradient does not hold real numbers.
        ValueError
            If the names or shapes do not fit.
        RuntimeError
            If an array has had no update.
        numpy.linalg.LinAlgError
            If the curvature of an array is not positive with its damping, and never was; it names the array.
        """
        with self._lock:
            names = self._names_in("grads", grads, all_of_them=True)
            arrays = {name: self._checked(f"grads[{name!r}]", grads[name], self.layers[name]) for name in names}
            self._require_updates()
            self._factorize()
            return self._directions(arrays)

    @property
    def damping(self):
        return self._damping

    @damping.setter
    def damping(self, value):
        self._damping = self._checked_damping("damping", value)

    @staticmethod
    def _checked_damping(name, value):
        return number(name, value, lower=0)

    @staticmethod
    def _checked(name, value, shape):
        array = floating(name, value)
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        return array

    def _directions(self, arrays):
        raise NotImplementedError
