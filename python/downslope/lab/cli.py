"""The command ``downslope``: `race` trains with every rule on real data, `info` says what is installed."""

import argparse
import contextlib
import shutil
import sys
import textwrap
from pathlib import Path

import downslope as ds
from downslope.lab import race
from downslope.lab.datasets import DatasetError, load
from downslope.lab.models import models_for
from downslope.lab.table import format_table


class CommandError(Exception):
    """What is wrong with a command, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise CommandError(f"{message} (see {self.prog} --help)")


def main(argv=None):
    """Run the command line ``argv`` (default: the process's own) and return the exit status."""
    try:
        args = _parser().parse_args(argv)
        return args.command(args)
    except (CommandError, DatasetError) as error:
        print("downslope: error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2
    except BrokenPipeError:  # as when the output goes to `head`
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("\ndownslope: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = _Parser(prog="downslope", description="Optimizers as fused kernels on NumPy arrays.")
    parser.add_argument("--version", action="version", version=f"downslope {ds.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="version, instruction set, threads, and the rules with their sources")
    info.set_defaults(command=_info)

    racing = commands.add_parser(
        "race",
        help="train on the digits or on a table of yours with every rule",
        description="Train a linear model and a perceptron with every rule, fused and in plain NumPy side by side; "
        "print a table and draw the training losses.",
    )
    racing.add_argument(
        "table", metavar="digits|FILE", help="the 1,797 UCI digits, a .csv file with a header, or an .npz with X and y"
    )
    racing.add_argument("--target", metavar="COLUMN", help="the column of the .csv file to predict")
    racing.add_argument(
        "--rules", type=_rules, default=list(ds.OPTIMIZERS), metavar="A,B", help="such as adam,adabelief; default: all"
    )
    racing.add_argument(
        "--epochs", type=_at_least(1), metavar="N", help=f"default: as many as make about {race.STEPS} steps"
    )
    racing.add_argument("--batch-size", type=_at_least(1), default=32, metavar="N", help="default: %(default)s")
    racing.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: %(default)s")
    racing.add_argument("--out", type=Path, metavar="PNG", help="default: race-digits.png, or race- and FILE's name")
    racing.set_defaults(command=_race)
    return parser


def _at_least(bound):
    def parse(text):
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < bound:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {bound}, got {text!r}")
        return number

    return parse


def _rules(text):
    rules = list(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in rules:
        if name not in ds.OPTIMIZERS:
            raise argparse.ArgumentTypeError(f"unknown rule {name!r}: choose from {','.join(ds.OPTIMIZERS)}")
    return rules


def _refuse_unwritable(path):
    """Training takes a while: find out now that its picture could not be saved, by opening the file."""
    if path.suffix.lower() != ".png":
        raise CommandError(f"--out must end in .png, got {str(path)!r}")
    existed = path.exists()
    with _writing(path), path.open("ab"):
        pass
    if not existed:
        path.unlink()


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot write {str(path)!r}: {error.strerror or error}: choose another --out") from None


def _race(args):
    try:
        from tqdm import tqdm

        from downslope.lab.plot_race import draw
    except ModuleNotFoundError:
        print("downslope race needs matplotlib and tqdm: pip install 'downslope[demo]'", file=sys.stderr)
        return 2
    dataset = load(args.table, args.target)
    out = args.out or Path(f"race-{dataset.name}.png")
    _refuse_unwritable(out)

    train, test = dataset.split(args.seed)
    epochs = args.epochs or race.default_epochs(len(train[0]), args.batch_size)
    models = models_for(dataset.features.shape[1], dataset.classes)
    rows, columns = dataset.features.shape
    _say(
        f"{dataset.name}: {rows:,} rows, {columns:,} features; {dataset.verdict}. {len(train[0]):,} rows to train on, "
        f"{len(test[0]):,} held out; {epochs:,} epochs in batches of {args.batch_size:,}."
    )
    results = []
    longest = max(map(len, args.rules))
    with tqdm(total=len(models) * len(args.rules) * epochs, unit="epoch", disable=None) as bar:
        settings = {"epochs": epochs, "batch_size": args.batch_size, "seed": args.seed, "on_epoch": bar.update}
        for model in models:
            laps = []
            for rule in args.rules:
                bar.set_description(f"{rule:<{longest}}")
                laps.append(race.run(rule, model, train, test, **settings))
            results.append((model, laps))
    for model, laps in results:
        print(f"\n{model.name}, {model.size:,} parameters\n")
        print(_lap_table(laps, dataset.classes))
    print()
    _say(
        "loss: on the training rows. acc, R^2: on the held-out rows. us: median microseconds of a step. "
        "bit-identical: fused and NumPy parameters had the same bits after every epoch."
    )
    with _writing(out):
        draw(results, out, title=f"{dataset.name}: batches of {args.batch_size:,}, seed {args.seed}")
    print(f"wrote {out}")
    return 0


def _lap_table(laps, classes):
    score = "test\nacc" if classes else "test\nR^2"
    header = ["\nrule", "final\nloss", score, "fused\nus", "NumPy\nus", "\nratio", "bit-\nidentical"]
    rows = [
        [
            ds.OPTIMIZERS[lap.rule].__name__,
            f"{lap.losses[-1]:#.3g}",
            f"{100 * lap.score:.1f}%" if classes else "< -10" if lap.score < -10 else f"{lap.score:.3f}",
            _microseconds(lap.fused_us),
            _microseconds(lap.numpy_us),
            f"{lap.numpy_us / lap.fused_us:.1f}x",
            "yes" if lap.identical else "no",
        ]
        for lap in laps
    ]
    return format_table(header, rows)


def _microseconds(us):
    return f"{us:.1f}" if us < 1000 else f"{us:,.0f}"


def _info(args):
    print(f"downslope        {ds.__version__}")
    print(f"instruction set  {ds.isa()}")
    print(f"threads          {ds.get_num_threads()}\n")
    for cls in ds.OPTIMIZERS.values():
        _say(f"{cls.__name__:<15}  {cls.source}", indent=17)
    return 0


def _say(text, indent=0):
    """Print a paragraph as wide as the terminal, and no wider than reads well."""
    width = min(shutil.get_terminal_size().columns, 100)
    print(textwrap.fill(text, width - 1, subsequent_indent=" " * indent, break_on_hyphens=False))
