"""The methods of `minimize` inside SciPy."""

import downslope


def scipy_method(method, **options):
    """A method of `minimize` as SciPy takes it: ``scipy.optimize.minimize(fun, x0, method=ds.scipy_method("adam"))``.

    Parameters
    ----------
    method : str
        A method of `minimize`.
    **options
        Its options, such as ``lr=0.1``. Those that SciPy is given in ``options``, and ``tol``, come on top of them.

    Returns
    -------
    callable
        It takes what SciPy's `minimize` hands on, including `jac`, `hess`, `hessp` and `callback`, and returns an
        `OptimizeResult`.

    Raises
    ------
    TypeError, ValueError
        When called: as `minimize` does; and `ValueError` if SciPy is given bounds or constraints, which no method here
        heeds.

    Notes
    -----
    It serves as the local minimizer of SciPy's `basinhopping` and `dual_annealing`, too:
    ``minimizer_kwargs={"method": ds.scipy_method("l-bfgs"), "jac": jac}``.

    Examples
    --------
    >>> import downslope as ds
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> minimize(rosen, [-1.2, 1.0], jac=rosen_der, method=ds.scipy_method("l-bfgs")).x.round(4)
    array([1., 1.])
    """

    def solve(
        fun, x0, args=(), jac=None, hess=None, hessp=None, bounds=None, constraints=(), tol=None, callback=None, **more
    ):
        for name, value in (("bounds", bounds), ("constraints", constraints)):
            # Both may be objects, or one dict for one constraint; what isn't there is None or empty.
            if value is not None and not (isinstance(value, (list, tuple)) and not value):
                raise ValueError(f"{name} must not be given: method {method!r} heeds none, got {value!r}")
        return downslope.minimize(
            fun,
            x0,
            args,
            method=method,
            jac=jac,
            hess=hess,
            hessp=hessp,
            tol=tol,
            callback=callback,
            options={**options, **more},
        )

    return solve
