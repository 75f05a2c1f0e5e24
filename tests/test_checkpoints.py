"""Optimizers in files: what is saved comes back, what is damaged does not, and a failure leaves the old file whole."""

import errno
import json
import os
import pickle
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rule_cases import CASES, assert_same_bits, case_id

import downslope as ds
from downslope.rules import tree_file
from downslope.rules.tree_file import DTYPES, read_tree, write_tree

library = pytest.importorskip("safetensors.numpy", reason="checkpoints need safetensors")


def assert_same_tree(actual, expected):
    """Equal in types, numbers and bits."""
    assert type(actual) is type(expected)
    if isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert [(type(key), key) for key in actual] == [(type(key), key) for key in expected]
        for key, item in expected.items():
            assert_same_tree(actual[key], item)
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_same_tree(a, b)
    else:
        assert repr(actual) == repr(expected)  # tells -0.0 from 0.0


def files(folder):
    return sorted(os.listdir(folder))


TEXT = st.text(st.characters())  # with surrogates, too
ARRAYS = hnp.arrays(st.sampled_from(sorted(DTYPES, key=str)), hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | ARRAYS
    | ARRAYS.map(np.transpose)
    | ARRAYS.filter(lambda a: a.ndim).map(lambda a: a[::2])
)
TREES = st.recursive(
    LEAVES,
    lambda node: st.lists(node) | st.lists(node).map(tuple) | st.dictionaries(TEXT | st.integers(), node),
)


class TestTrees:
    """The container knows nothing of optimizers."""

    @settings(deadline=None)  # the disk may be slow
    @given(TREES)
    def test_come_back_equal(self, tmp_path_factory, tree):
        path = tmp_path_factory.getbasetemp() / "tree"
        write_tree(path, tree)
        assert_same_tree(read_tree(path), tree)

    def test_may_have_names_that_look_alike(self, tmp_path):
        tree = {1: np.ones(1), "1": np.zeros(1), "a": {"b']['c": np.ones(2)}, "a']['b": {"c": np.zeros(2)}, "": [1]}
        write_tree(tmp_path / "tree", tree)
        assert_same_tree(read_tree(tmp_path / "tree"), tree)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int64"])
    def test_keep_every_bit_of_a_number(self, dtype, tmp_path):
        array = np.random.default_rng(0).integers(0, 256, 4096, np.uint8).view(dtype)  # NaN of every kind among them
        write_tree(tmp_path / "tree", array)
        assert_same_tree(read_tree(tmp_path / "tree"), array)

    @pytest.mark.parametrize(
        "leaf",
        [
            *(np.nan, np.inf, -np.inf, 1j, {1}, b"bytes", object(), np.int64(1), np.float32(1), np.bool_(True)),
            *(np.ones(1, "c16"), np.array([None]), np.array(["a"]), np.ones(1, "M8[s]"), np.ones(1, "f4,f4")),
            *(np.ones(1, np.dtype("f8").newbyteorder()), np.ma.ones(1), np.ones(1).view(np.recarray)),
            *({1.0: 1}, {None: 1}, {(1, 2): 1}, {True: 1}),
        ],
        ids=lambda leaf: f"{type(leaf).__name__}-{leaf}"[:30],
    )
    def test_with_something_else_in_them_are_refused(self, leaf, tmp_path):
        with pytest.raises((TypeError, ValueError), match=r"\['a'\]\[1\]"):
            write_tree(tmp_path / "tree", {"a": [0, leaf]})
        assert files(tmp_path) == []

    def test_written_twice_are_the_same_bytes(self, tmp_path):
        tree = {"a": np.ones(3), "b": [np.zeros((2, 2), "f4"), 1.5, {"c": np.ones(1, "u1")}]}
        for name in ("one", "two"):
            write_tree(tmp_path / name, tree)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

    def test_are_readable_without_downslope(self, tmp_path):
        write_tree(tmp_path / "tree", {"state": {0: {"sum": np.arange(3.0)}}})
        assert library.load_file(tmp_path / "tree")["['state'][0]['sum']"].tolist() == [0, 1, 2]


@pytest.fixture
def saved(tmp_path):
    """A small checkpoint and the parameter it belongs to."""
    p = np.ones(2)
    opt = ds.NAdam({"w": p}, lr=0.1)
    opt.step({"w": np.ones(2)})
    opt.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint", {"w": p}


class TestDamage:
    @pytest.mark.parametrize("mask", [0x01, 0x20, 0x29, 0xFF])  # the case of a letter; a tab for a space; every bit
    def test_of_any_byte_is_found(self, mask, saved):
        path, params = saved
        whole = path.read_bytes()
        for i in range(len(whole)):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])
            with pytest.raises(ValueError, match="checkpoint (is|has)"):
                ds.load_optimizer(path, params)
        path.write_bytes(whole)
        ds.load_optimizer(path, params)

    def test_by_cutting_or_adding_is_found(self, saved):
        path, params = saved
        whole = path.read_bytes()
        for part in (*(whole[:i] for i in range(len(whole))), whole + b"\0", whole + b" ", whole + whole):
            path.write_bytes(part)
            with pytest.raises(ValueError, match="checkpoint is.* damaged"):
                ds.load_optimizer(path, params)

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"hello, world, this is no checkpoint", "not a safetensors file"),
            (pickle.dumps({"a": np.ones(3)}), "not a safetensors file"),
            (b"\x02" + bytes(7) + b"[]", "not a safetensors file"),
            (b"\xff\xff" + bytes(6) + b"[" * 100_000, "not a safetensors file"),
            (library.save({"w": np.ones(3)}), "not a checkpoint of downslope"),
            (library.save({"w": np.ones(3)}, {"format": "np"}), "not a checkpoint of downslope"),
            (library.save({}, {tree_file.KEY: "7"}), "not a checkpoint of downslope"),
            (library.save({}, {tree_file.KEY: "{"}), "not a checkpoint of downslope"),
            (library.save({}, {tree_file.KEY: '{"version": 1, "sha256": 1, "tree": 1}'}), "damaged"),
            (library.save({}, {tree_file.KEY: '{"version": 1, "sha256": "", "tree": 1}'}), "damaged"),
        ],
    )
    def test_other_files_are_recognised(self, content, message, tmp_path):
        path = tmp_path / "other"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            ds.load_optimizer(path, np.ones(2))

    def test_a_newer_version_is_named(self, saved, monkeypatch):
        path, params = saved
        monkeypatch.setattr(tree_file, "VERSION", 2)
        ds.Adam(params).save(path)
        monkeypatch.undo()
        with pytest.raises(ValueError, match=f"{path} has version 2 of the format, and this downslope reads version 1"):
            ds.load_optimizer(path, params)

    def test_the_errors_of_the_system_stay(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            ds.load_optimizer(tmp_path / "missing", np.ones(2))
        with pytest.raises(IsADirectoryError):
            ds.load_optimizer(tmp_path, np.ones(2))


class TestWriting:
    @pytest.fixture
    def old(self, saved):
        """What an attempt to write another optimizer to the file must leave as it is."""
        path, params = saved
        before, names = path.read_bytes(), files(path.parent)
        yield path
        assert path.read_bytes() == before and files(path.parent) == names
        ds.load_optimizer(path, params)

    def save(self, path):
        ds.SGD(np.ones(1000), momentum=0.9).save(path)

    @pytest.mark.parametrize("function", ["fsync", "replace", "fchmod"])
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
    def test_that_fails_in_the_system(self, function, error, old, monkeypatch):
        def fail(*args):
            raise error

        monkeypatch.setattr(os, function, fail)
        with pytest.raises(type(error)) as raised:
            self.save(old)
        monkeypatch.undo()
        if isinstance(error, OSError):
            assert str(raised.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{old}'"

    def test_that_fails_half_way(self, old):
        """As on a full disk, part of the file is there when the system refuses the rest."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
            with pytest.raises(OSError, match=r"File too large.*checkpoint"):
                self.save(old)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    @pytest.mark.parametrize("function", ["fsync", "replace"])
    def test_that_ends_in_a_crash(self, function, saved):
        path, params = saved
        before = path.read_bytes()
        code = f"""
import os, numpy as np, downslope as ds
os.{function} = lambda *args: os._exit(3)
ds.SGD(np.ones(1000), momentum=0.9).save({str(path)!r})
"""
        assert subprocess.run([sys.executable, "-c", code]).returncode == 3
        assert path.read_bytes() == before
        ds.load_optimizer(path, params)

    def test_reaches_the_disk_before_the_name_does(self, saved, monkeypatch):
        path, _ = saved
        calls = []
        fsync, replace = os.fsync, os.replace

        def watched_fsync(descriptor):
            calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.fstat(descriptor).st_size)
            fsync(descriptor)

        def watched_replace(source, target):
            assert os.path.dirname(source) == os.path.dirname(target)  # else it might be a copy
            calls.append("replace")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        self.save(path)
        assert calls == [path.stat().st_size, "replace", "folder"]

    def test_does_without_a_folder_that_can_be_synchronised(self, saved, monkeypatch):
        path, _ = saved
        fsync = os.fsync

        def fail_for_folders(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail_for_folders)
        self.save(path)
        ds.load_optimizer(path, np.ones(1000))

    def test_gives_the_permissions_that_open_gives(self, tmp_path):
        before = os.umask(0o027)
        try:
            for name, save in (("opened", lambda path: path.touch()), ("saved", self.save)):
                save(tmp_path / name)
        finally:
            os.umask(before)
        opened, saved = ((tmp_path / name).stat().st_mode for name in ("opened", "saved"))
        assert opened == saved and stat.S_IMODE(saved) == 0o640
        os.chmod(tmp_path / "saved", 0o604)
        self.save(tmp_path / "saved")
        assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o604

    def test_follows_a_symbolic_link(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(Path("folder", "file"))
        for _ in range(2):
            self.save(tmp_path / "link")
            assert (tmp_path / "link").is_symlink() and files(tmp_path / "folder") == ["file"]
        ds.load_optimizer(tmp_path / "folder" / "file", np.ones(1000))

    def test_into_the_working_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.save("checkpoint")
        assert files(".") == ["checkpoint"]
        ds.load_optimizer("checkpoint", np.ones(1000))

    def test_where_nothing_can_be_written(self, tmp_path, monkeypatch):
        with pytest.raises(FileNotFoundError) as raised:
            self.save(tmp_path / "missing" / "checkpoint")
        assert raised.value.filename == str(tmp_path / "missing" / "checkpoint")
        with pytest.raises(IsADirectoryError):
            self.save(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="Not a regular file.*pipe"):
            self.save(tmp_path / "pipe")
        assert files(tmp_path) == ["pipe"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_over_a_file_that_may_not_be_written(self, old, monkeypatch):
        """Its folder would let it be replaced, but `open` would not; and root may write everything, hence the patch."""

        def strict_open(path, mode="r", *args, **kwargs):
            if path == os.path.realpath(old) and mode != "rb":
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return open(path, mode, *args, **kwargs)

        monkeypatch.setattr(tree_file, "open", strict_open, raising=False)
        with pytest.raises(PermissionError):
            self.save(old)


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_going_on_from_a_file_gives_the_same_bits(case, dtype, rng, tmp_path):
    name, hyper = case
    path = str(tmp_path / "checkpoint")

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    params = [draw(300), np.asfortranarray(draw(2, 3)), draw(), draw(0, 2)]
    opt = ds.OPTIMIZERS[name](params, **hyper, lr=0.0123, weight_decay=0.01, grad_scale=1 / 3)
    grads = [[draw(300), None if t % 3 else draw(2, 3), draw(), draw(0, 2)] for t in range(20)]
    for g in grads[:10]:
        opt.step(g)
    opt.save(path)
    twin = ds.load_optimizer(path, [p.copy("K") for p in params])
    assert type(twin) is type(opt) and repr(twin) == repr(opt)
    assert_same_tree(twin.state_dict(), opt.state_dict())
    for g in grads[10:]:
        opt.step(g)
        twin.step(g)
    assert_same_tree(twin.state_dict(), opt.state_dict())
    for p, q in zip(opt.params, twin.params, strict=True):
        assert_same_bits(np.array(q), np.array(p))


def ones(structure):
    """Parameters of one structure, anew."""
    return {
        "array": lambda: np.ones(2),
        "list": lambda: [np.ones(2), np.ones(3, "f4")],
        "mapping": lambda: {"a": np.ones(2), "b": np.ones(3, "f4"), 7: np.ones(1)},
        "groups": lambda: [{"params": [np.ones(2), np.ones(3)], "lr": 0.5}, {"params": np.ones(1), "momentum": 0.5}],
    }[structure]()


@pytest.mark.parametrize("structure", ["array", "list", "mapping", "groups"])
def test_every_structure_of_parameters(structure, tmp_path):
    path = tmp_path / "checkpoint"
    opt = ds.SGD(ones(structure), lr=0.25, momentum=0.9)
    opt.save(path)
    twin = ds.load_optimizer(path, ones(structure))
    np.testing.assert_equal(twin.params, opt.params)
    assert type(twin.state) is type(opt.state)
    assert_same_tree(twin.state_dict(), opt.state_dict())


def test_parameters_are_moved_in_place(tmp_path):
    p = np.ones(2)
    ds.SGD([p], lr=0.5).save(tmp_path / "checkpoint")
    opt = ds.load_optimizer(tmp_path / "checkpoint", [p])
    opt.step([np.ones(2)])
    assert opt.params[0] is p and p.tolist() == [0.5, 0.5]


def test_groups_come_from_the_file(tmp_path):
    path = tmp_path / "checkpoint"
    opt = ds.SGD(ones("groups"), lr=0.25)
    opt.save(path)
    other = [{"params": [np.ones(2), np.ones(3)], "lr": 77.0}, {"params": [np.ones(1)]}]
    for params in ([np.ones(2), np.ones(3), np.ones(1)], iter([np.ones(2), np.ones(3), np.ones(1)]), other):
        twin = ds.load_optimizer(path, params)
        assert [(g["lr"], g["momentum"]) for g in twin.param_groups] == [(0.5, 0.0), (0.25, 0.5)]
        assert [len(g["params"]) for g in twin.param_groups] == [2, 1]


def test_a_mapping_goes_by_its_names(tmp_path):
    path = tmp_path / "checkpoint"
    opt = ds.SGD({"a": np.ones(2)}, momentum=0.9)
    opt.add_param_group({"params": {"b": np.ones(2), "c": np.ones(2)}, "lr": 0.5})
    opt.step({"a": np.ones(2), "b": np.full(2, 2.0), "c": np.full(2, 3.0)})
    opt.save(path)
    params = {"c": np.ones(2), "b": np.ones(2), "a": np.ones(2)}
    twin = ds.load_optimizer(path, params)
    assert all(twin.params[name] is params[name] for name in params)
    assert {name: slots["momentum_buffer"][0] for name, slots in twin.state.items()} == {"a": 1, "b": 2, "c": 3}
    assert [(g["lr"], len(g["params"])) for g in twin.param_groups] == [(0.01, 1), (0.5, 2)]


def test_groups_to_come_have_the_defaults_of_old(tmp_path):
    path = tmp_path / "checkpoint"
    groups = [{"params": np.ones(1), "lr": 0.5, "momentum": 0.9, "nesterov": True}]
    ds.SGD(groups, lr=0.25, weight_decay=0.125).save(path)
    for lr in (None, 2.0):
        twin = ds.load_optimizer(path, [np.ones(1)], lr=lr)
        twin.add_param_group({"params": np.ones(1)})
        settings = twin.param_groups[1]
        assert (settings["lr"], settings["momentum"], settings["weight_decay"]) == (lr or 0.25, 0.0, 0.125)


def half_of(step):
    return 0.5 / step


def test_a_schedule_is_not_saved(tmp_path):
    path = tmp_path / "checkpoint"
    opt = ds.SGD([{"params": np.ones(1), "lr": 0.125}, {"params": np.ones(1)}], lr=half_of)
    for _ in range(3):
        opt.step([np.ones(1)] * 2)
    opt.save(path)
    with pytest.raises(ValueError, match=f"lr was a schedule when {path} was saved.*lr=\\.\\.\\."):
        ds.load_optimizer(path, [np.ones(1)] * 2)
    for lr in (half_of, 0.125):
        twin = ds.load_optimizer(path, [np.zeros(1), np.zeros(1)], lr=lr)
        assert twin.lr == lr
        twin.step([np.ones(1)] * 2)
        assert [p.item() for p in twin.params] == [-0.125, -0.125]  # the fourth step


def test_a_number_set_after_a_schedule_is_saved_for_groups_to_come(tmp_path):
    path = tmp_path / "checkpoint"
    opt = ds.SGD([np.ones(1)], lr=half_of)
    opt.lr = 0.125
    opt.save(path)
    for each in (opt, ds.load_optimizer(path, [np.ones(1)])):
        each.add_param_group({"params": np.ones(1)})
        assert each.lr == 0.125


def test_a_given_lr_is_looked_at(tmp_path):
    path = tmp_path / "checkpoint"
    ds.SGD(np.ones(1)).save(path)
    with pytest.raises(ValueError, match="lr must be >= 0 and finite, got -1"):
        ds.load_optimizer(path, np.ones(1), lr=-1)
    with pytest.raises(TypeError, match="lr must be a number, got 'fast'"):
        ds.load_optimizer(path, np.ones(1), lr="fast")


@pytest.mark.parametrize(
    "saved, given, message",
    [
        ("list", lambda: [np.ones(2)], "params must have 2 arrays, as .* has, got 1"),
        ("list", lambda: [np.ones(2)] * 3, "params must have 2 arrays, as .* has, got 3"),
        ("list", lambda: [np.ones(2), np.ones(3)], r"params\[1\] must have shape \(3,\) and dtype float32.* float64"),
        ("list", lambda: [np.ones((1, 2)), np.ones(3, "f4")], r"params\[0\] must have shape \(2,\).* got \(1, 2\)"),
        ("list", lambda: {"a": np.ones(2), "b": np.ones(3, "f4")}, r"params\[0\] is missing, params\['a'\] unexpected"),
        ("array", lambda: [np.ones(2)], r"params is missing, params\[0\] unexpected"),
        ("array", lambda: np.ones(3), r"params must have shape \(2,\).* got \(3,\)"),
        ("mapping", lambda: {"a": np.ones(2), "c": np.ones(3, "f4"), 7: np.ones(1)}, r"\['b'\] is missing.*\['c'\] un"),
        ("mapping", lambda: {"a": np.ones(2), "b": np.ones(3, "f4"), "7": np.ones(1)}, r"\[7\] is missing.*\['7'\] un"),
        ("mapping", lambda: {"b": np.ones(2), "a": np.ones(3, "f4"), 7: np.ones(1)}, r"params\['a'\] must have shape"),
        ("groups", lambda: [{"params": [np.ones(2)]}, {"params": [np.ones(3), np.ones(1)]}], r"groups of \[2, 1\] arr"),
    ],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_parameters_that_do_not_fit(saved, given, message, momentum, tmp_path):
    ds.SGD(ones(saved), momentum=momentum).save(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=message) as raised:
        ds.load_optimizer(tmp_path / "checkpoint", given())
    assert str(tmp_path / "checkpoint") in str(raised.value)


def test_parameters_that_cannot_be_used(tmp_path):
    ds.SGD([np.ones(2)]).save(tmp_path / "checkpoint")
    with pytest.raises(TypeError, match=r"params\[0\] must be a NumPy array, got str"):
        ds.load_optimizer(tmp_path / "checkpoint", ["x"])
    with pytest.raises(TypeError, match="params must be a NumPy array, a sequence or a mapping"):
        ds.load_optimizer(tmp_path / "checkpoint", 3)


def test_contents_that_do_not_fit(tmp_path):
    """Files of a downslope that knew something else."""
    path = tmp_path / "checkpoint"
    opt = ds.SGD(np.ones(2), momentum=0.9)
    opt.save(path)
    content = read_tree(path)
    content["class"] = "adafactor"
    write_tree(path, content)
    message = f"{path} is not of an optimizer: class must be one of sgd, .*, got 'adafactor'$"
    with pytest.raises(ValueError, match=message):
        ds.load_optimizer(path, np.ones(2))
    for other, got in ((ds.KFAC({"fc": (1, 1)}).state_dict(), "'KFAC'"), ([content], "None")):
        write_tree(path, other)
        with pytest.raises(ValueError, match=f"{path} is not of an optimizer: .* got {got}$"):
            ds.load_optimizer(path, np.ones(2))
    content["class"] = "sgd"
    content["state_dict"]["state"][0]["momentum_buffer"] = np.ones(3)
    write_tree(path, content)
    with pytest.raises(ValueError, match=rf"{path}: state_dict\['state'\]\[0\]\['momentum_buffer'\] must have shape"):
        ds.load_optimizer(path, np.ones(2))


class Tuned(ds.SGD):
    """A subclass, which nothing but pickle can find again."""


class SGD(ds.SGD):
    """One that has the name of ours."""


@pytest.mark.parametrize("cls", [Tuned, SGD])
def test_a_subclass_is_refused(cls, tmp_path):
    with pytest.raises(TypeError, match=f"classes of downslope.OPTIMIZERS can be saved, got {cls.__name__}"):
        cls(np.ones(2)).save(tmp_path / "checkpoint")
    assert files(tmp_path) == []


@pytest.mark.parametrize("how", ["save", "load"])
def test_without_the_library(how, saved, monkeypatch):
    path, params = saved
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'downslope\[io\]'"):
        ds.Adam(params).save(path) if how == "save" else ds.load_optimizer(path, params)


def test_the_library_is_imported_by_those_who_save():
    code = "import sys, downslope; assert 'safetensors' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_file_is_a_program(saved):
    """The header is JSON, the rest are plain numbers."""
    data = saved[0].read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F64"}
    assert json.loads(header["__metadata__"][tree_file.KEY])["version"] == tree_file.VERSION
