"""Named arrays as one vector, which is what the loops move, and back."""

import numpy as np

from downslope.rules.structure import read_params
from downslope.validation import float64_array, real_array


def flatten(params):
    """All numbers of a mapping, or sequence, of arrays in one vector, and the way back.

    Parameters
    ----------
    params : array_like, sequence or mapping of array_like
        Floating-point numbers of any shapes, in the structures that an optimizer takes. Arrays follow each other in the
        order of the sequence or mapping, their elements in C order.

    Returns
    -------
    vector : ndarray of shape (n,)
        A copy in float64.
    unflatten : callable
        ``unflatten(vector)`` is the way back: new arrays in the structure, shapes and dtypes of `params`.
        ``unflatten.flatten(grads)`` is the vector of other arrays in that structure, such as gradients; those that have
        names may come in any order.

    Raises
    ------
    TypeError
        If an array is not of floating-point numbers which float64 can hold; from `unflatten`, if `vector` is not one of
        real numbers.
    ValueError
        From `unflatten`, if `vector` does not have shape (n,); from ``unflatten.flatten``, if structure or shapes
        differ.

    Notes
    -----
    Sequences come back as lists, mappings as dicts. Like ``ravel_pytree`` of JAX, but without nesting.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> vector, unflatten = ds.flatten({"w": np.array([[1.0, 2.0]]), "b": np.zeros(1, np.float32)})
    >>> vector
    array([1., 2., 0.])
    >>> unflatten(vector + 1)
    {'w': array([[2., 3.]]), 'b': array([1.], dtype=float32)}
    >>> unflatten.flatten({"b": np.array([5.0]), "w": np.array([[3.0, 4.0]])})
    array([3., 4., 5.])
    """
    structure, groups = read_params(params)
    arrays = [
        _float_array(f"params{label}", item)
        for label, item in zip(structure.labels, (item for items, _ in groups for item in items), strict=True)
    ]
    unflatten = _Unflatten(structure, arrays)
    return unflatten.joined(arrays), unflatten


class _Unflatten:
    """From the vector to arrays like those that it was made of; picklable, unlike a closure."""

    def __init__(self, structure, arrays):
        self._structure = structure
        self._shapes = [array.shape for array in arrays]
        self._dtypes = [array.dtype for array in arrays]
        ends = np.cumsum([0, *(array.size for array in arrays)]).tolist()
        self._slices = [slice(start, end) for start, end in zip(ends, ends[1:])]
        self._size = ends[-1]

    def __call__(self, vector):
        """New arrays with the numbers of `vector`."""
        vector = float64_array("vector", vector)
        if vector.shape != (self._size,):
            raise ValueError(f"vector must have shape ({self._size},), got {vector.shape}")
        return self._structure.unflatten(
            [
                vector[part].reshape(shape).astype(dtype)
                for part, shape, dtype in zip(self._slices, self._shapes, self._dtypes, strict=True)
            ]
        )

    def flatten(self, grads):
        """The vector of arrays that have the structure and the shapes."""
        labels = self._structure.labels
        arrays = [
            float64_array(f"grads{label}", grad)
            for label, grad in zip(labels, self._structure.flatten(grads), strict=True)
        ]
        for label, array, shape in zip(labels, arrays, self._shapes, strict=True):
            if array.shape != shape:
                raise ValueError(f"grads{label} must have shape {shape}, as params{label} has, got {array.shape}")
        return self.joined(arrays)

    def joined(self, arrays):
        """The vector of arrays that are known to fit."""
        vector = np.empty(self._size)
        for part, array in zip(self._slices, arrays, strict=True):
            vector[part] = array.ravel()
        return vector


def _float_array(name, given):
    """The array; integers are refused, since the way back would round."""
    array = real_array(name, given)
    if array.dtype.kind in "iub":
        raise TypeError(f"{name} must have a floating-point dtype, got {array.dtype}: convert it first")
    return array
