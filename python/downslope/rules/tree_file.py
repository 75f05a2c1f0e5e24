"""Trees of settings and arrays in one safetensors file: written whole or not at all, and read only if undamaged.

A tree is None, a bool, int, finite float, str or NumPy array, or a list, tuple or dict (with str or int as keys) of
trees. Arrays are the file's tensors, each named by its path in the tree. The rest is JSON in the file's metadata, under
one key, since the library writes several in random order. With it goes a checksum: the SHA-256 of the file without the
checksum's own digits.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat

import numpy as np

from downslope.validation import number

KEY = "downslope.checkpoint"
VERSION = 1
DTYPES = {np.dtype(kind) for kind in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}


def check_class(saved, classes, name):
    """Only what is of one of these `classes`, a public mapping of that name, will be found again in a file."""
    if type(saved) not in classes.values():
        raise TypeError(f"only classes of {name} can be saved, got {type(saved).__name__}: pickle it")


def write_tree(path, tree):
    """Write `tree` to the file `path`; if that fails, a file that was there is as it was."""
    library = _safetensors()
    arrays = {}
    mark = secrets.token_hex(hashlib.sha256().digest_size)  # where the digits go; nothing else in the file equals it
    content = {"version": VERSION, "sha256": mark, "tree": _encoded(tree, "", arrays)}
    data = library.save(arrays, {KEY: json.dumps(content)})
    before, after = _around(data, mark)
    _replace_file(os.fsdecode(path), (before, _checksum(before, after).encode(), after))


def read_tree(path):
    """The tree in the file `path`, with new arrays; raises ValueError unless it is what `write_tree` wrote."""
    library = _safetensors()
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        data = file.read()
    try:  # the library shows metadata of paths alone; opened twice, they might be those of another file
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged") from error
    try:
        content = json.loads(metadata[KEY])
        version, digits = content["version"], content["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is a safetensors file, but not a checkpoint of downslope, or is damaged") from error
    if version != VERSION:
        raise ValueError(f"{path} has version {version} of the format, and this downslope reads version {VERSION}")
    try:
        intact = _checksum(*_around(data, digits)) == digits
    except (ValueError, AttributeError):  # no digits at all
        intact = False
    if not intact:
        raise ValueError(f"{path} is damaged: its checksum does not match")
    return _decoded(content["tree"], library.load(data))


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("checkpoints need the library safetensors: pip install 'downslope[io]'") from error
    return safetensors.numpy


def _around(data, digits):
    """The bytes before and after the digits."""
    start = data.index(digits.encode())
    return memoryview(data)[:start], memoryview(data)[start + len(digits) :]


def _checksum(before, after):
    digest = hashlib.sha256(before)
    digest.update(after)
    return digest.hexdigest()


def _encoded(tree, where, arrays):
    """The tree as JSON has it, with an object of one entry for each dict, tuple and array; fills `arrays` by name."""
    if tree is None or isinstance(tree, (bool, int, str)):
        return tree
    if isinstance(tree, float):
        return number(where, tree)
    if isinstance(tree, (list, tuple)):
        items = [_encoded(item, f"{where}[{i}]", arrays) for i, item in enumerate(tree)]
        return {"tuple": items} if isinstance(tree, tuple) else items
    if isinstance(tree, dict):
        for key in tree:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TypeError(f"keys of {where} must be str or int to be saved, got {key!r}")
        return {"dict": [[key, _encoded(item, f"{where}[{key!r}]", arrays)] for key, item in tree.items()]}
    if type(tree) is np.ndarray and tree.dtype in DTYPES:
        arrays[where] = np.asarray(tree, order="C")  # the library writes memory as it lies, whatever the strides
        return {"array": where}
    raise TypeError(f"{where} cannot be saved, got {getattr(tree, 'dtype', '')} {type(tree).__name__}")


def _decoded(node, arrays):
    if isinstance(node, list):
        return [_decoded(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple(_decoded(content, arrays))
    return {key: _decoded(item, arrays) for key, item in content}


def _replace_file(path, parts):
    """Write a file beside `path`, put it on the disk, and only then give it the name."""
    target = os.path.realpath(path)  # a symbolic link stays one
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        mode = _mode_to_keep(target)
        with open(temporary, "xb") as file:  # unlike those of `tempfile`, with the permissions of any new file
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = path  # the temporary name says nothing to the user
        raise
    with contextlib.suppress(OSError):  # not every system can, and the file is there and whole either way
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode_to_keep(path):
    """The permissions of the file that is there, if any; raises what `open` would where it may not be written."""
    try:
        with open(path, "r+b", buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
    return stat.S_IMODE(mode)
