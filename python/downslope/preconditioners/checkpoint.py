"""A preconditioner from a file."""

import os

from downslope.rules.tree_file import read_tree


def load_preconditioner(path):
    """The preconditioner that its `save` wrote, to go on with the same bits.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    KFAC, EKFAC, TONGA or DiagonalFisher
        As it was saved, with its settings, running averages and counts.

    Raises
    ------
    ValueError
        If the file is damaged or something else, or a newer version wrote it.
    OSError
        If the file cannot be read.
    ImportError
        Without the library safetensors: ``pip install 'downslope[io]'``.

    Examples
    --------
    >>> import os, tempfile
    >>> import downslope as ds
    >>> fisher = ds.DiagonalFisher({"W": (2,)})
    >>> fisher.update({"W": [[1.0, 2.0]]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "fisher.safetensors")
    ...     fisher.save(path)
    ...     ds.load_preconditioner(path)
    DiagonalFisher(1 layers, decay=0.95, damping=0.001)
    """
    from downslope.preconditioners import PRECONDITIONERS  # it imports this file

    saved = read_tree(path)
    try:
        name = saved["class"]
        if name not in PRECONDITIONERS:
            raise ValueError(f"class must be one of {', '.join(PRECONDITIONERS)}, got {name!r}")
        made = PRECONDITIONERS[name](saved["layers"], **saved["settings"])
        made.load_state_dict(saved)
        return made
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fsdecode(path)} is not of a preconditioner: {error}") from error
