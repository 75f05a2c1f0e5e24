"""The command ``downslope``: `race` trains with every rule on real data, `states` with state in fewer bits, `curvature`
along directions of every kind of curvature, `minimize` goes down to a known minimum, and `info` says what is installed.
"""

import argparse
import contextlib
import importlib
import re
import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np

import downslope as ds
from downslope.lab import minimize_problem, race, states, surface
from downslope.lab.datasets import DatasetError, load
from downslope.lab.models import autoencoder, cross_entropy, models_for
from downslope.lab.problems import PROBLEMS
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
        help="train on the digits or on a table of yours with every rule and preconditioner",
        description="Train a linear model and a perceptron, and on the digits a deep autoencoder, with every rule, "
        "fused and in plain NumPy side by side, and with every preconditioner; print tables and draw the losses.",
    )
    _add_training(racing)
    racing.add_argument(
        "--rules", type=_rules, default=list(race.ENTRANTS), metavar="A,B", help="such as adam,kfac; default: all"
    )
    racing.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: %(default)s")
    racing.set_defaults(command=_race)

    storing = commands.add_parser(
        "states",
        help="does Adam train as well with its state in 16 and 8 bits?",
        description="Train a linear model and a perceptron by Adam with state in float32, bfloat16 and uint8, from "
        "several seeds; then minimize a noisy quadratic whose gradients shrink ten-thousandfold. Print tables and draw "
        "the losses.",
    )
    _add_training(storing)
    storing.add_argument("--seeds", type=_at_least(2), default=10, metavar="N", help="how many; default: %(default)s")
    storing.add_argument(
        "--long-steps",
        type=_at_least(1),
        default=states.LONG_STEPS,
        metavar="N",
        help="on the quadratic; default: %(default)s",
    )
    storing.set_defaults(command=_states)

    curving = commands.add_parser(
        "curvature",
        help="what does each kind of curvature cost, and how few iterations does it take?",
        description="Fit a surface to points with holes and outliers, along directions that full, Kronecker-factored, "
        "block-diagonal, low-rank and diagonal curvature give, with and without momentum. Print a table and draw the "
        "values.",
    )
    curving.add_argument(
        "--iterations", type=_at_least(1), default=400, metavar="N", help="at most; default: %(default)s"
    )
    curving.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: %(default)s")
    curving.add_argument("--out", type=Path, default=Path("curvature.png"), metavar="PNG", help="default: %(default)s")
    curving.set_defaults(command=_curvature)

    minimizing = commands.add_parser(
        "minimize",
        help="minimize a test problem with a known minimum",
        description="Minimize one of the test problems with a method of downslope.minimize and say how near it came. "
        "The exit status is 0 if it converged and 1 if not.",
    )
    minimizing.add_argument("problem", nargs="?", metavar="PROBLEM", help="such as rosenbrock")
    minimizing.add_argument("--list", action="store_true", help="print the problems")
    minimizing.add_argument("--method", default="l-bfgs", metavar="NAME", help="such as adam; default: %(default)s")
    minimizing.add_argument("--lr", type=_finite, metavar="X", help="the learning rate; default: the method's")
    minimizing.add_argument("--maxiter", type=_at_least(1), metavar="N", help="default: the method's")
    minimizing.add_argument(
        "--start", type=_finite, nargs="+", metavar="X", help="a number for each variable; default: the problem's"
    )
    # As in Python 3.14. Before it, argparse takes -1e-3 for an option, and there is no public setting.
    minimizing._negative_number_matcher = re.compile(r"-\.?\d")
    minimizing.add_argument("--plot", type=Path, metavar="PNG", help="draw the path, if the problem has two variables")
    minimizing.set_defaults(command=_minimize)
    return parser


def _add_training(parser):
    """The arguments of what trains on a table and draws."""
    name = parser.prog.split()[-1]
    parser.add_argument(
        "table", metavar="digits|FILE", help="the 1,797 UCI digits, a .csv file with a header, or an .npz with X and y"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column of the .csv file to predict")
    parser.add_argument(
        "--epochs", type=_at_least(1), metavar="N", help=f"default: as many as make about {race.STEPS} steps"
    )
    parser.add_argument("--batch-size", type=_at_least(1), default=32, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="PNG", help=f"default: {name}-digits.png, or {name}- and FILE's name"
    )


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


def _finite(text):
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    return number


def _rules(text):
    rules = list(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in rules:
        if name not in race.ENTRANTS:
            raise argparse.ArgumentTypeError(f"unknown rule {name!r}: choose from {','.join(race.ENTRANTS)}")
    return rules


def _refuse_unwritable(path, option="--out"):
    """Training takes a while: find out now that its picture could not be saved, by opening the file."""
    if path.suffix.lower() != ".png":
        raise CommandError(f"{option} must end in .png, got {str(path)!r}")
    existed = path.exists()
    with _writing(path, option), path.open("ab"):
        pass
    if not existed:
        path.unlink()


@contextlib.contextmanager
def _writing(path, option="--out"):
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot write {str(path)!r}: {error.strerror or error}: choose another {option}") from None


def _drawing(command, picture=None):
    """What only the demo's extra brings: tqdm, and the function that draws the picture, by default the command's."""
    try:
        from tqdm import tqdm

        return tqdm, importlib.import_module(f"downslope.lab.plot_{picture or command}").draw
    except ModuleNotFoundError:
        raise CommandError(f"{command} needs matplotlib and tqdm: pip install 'downslope[demo]'") from None


def _race(args):
    tqdm, draw = _drawing("race")
    dataset = load(args.table, args.target)
    out = args.out or Path(f"race-{dataset.name}.png")
    _refuse_unwritable(out)

    train, test = dataset.split(args.seed)
    epochs = args.epochs or race.default_epochs(len(train[0]), args.batch_size)
    models = models_for(dataset.features.shape[1], dataset.classes)
    rows, columns = dataset.features.shape
    if args.table == "digits":
        models.append(autoencoder(columns))
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
        print(_lap_table(laps, model.loss is cross_entropy))
    print()
    _say(
        "loss: on the training rows. acc, R^2: on the held-out rows. us: median microseconds of a step, with the "
        "preconditioner where there is one. bit-identical: fused and NumPy parameters had the same bits after every "
        "epoch. epochs, s: until the loss was as low as Adam's ever was, with all gradients."
    )
    with _writing(out):
        draw(results, out, title=f"{dataset.name}: batches of {args.batch_size:,}, seed {args.seed}")
    print(f"wrote {out}")
    return 0


def _lap_table(laps, classes):
    adam = next((lap for lap in laps if lap.rule == "adam"), None)
    score = "test\nacc" if classes else "test\nR^2"
    header = ["\nrule", "final\nloss", score, "fused\nus", "NumPy\nus", "bit-\nid.", "epo-\nchs", "\ns"]
    rows = []
    for lap in laps:
        epochs, seconds = lap.reaches(np.nanmin(adam.losses)) if adam else (np.nan, np.nan)
        rows.append(
            [
                race.ENTRANTS[lap.rule],
                f"{lap.losses[-1]:#.3g}",
                f"{100 * lap.score:.1f}%" if classes else "< -10" if lap.score < -10 else f"{lap.score:.3f}",
                _microseconds(lap.fused_us),
                _microseconds(lap.numpy_us),
                {True: "yes", False: "no", None: "-"}[lap.identical],
                "-" if np.isnan(epochs) else f"{epochs:.0f}",
                "-" if np.isnan(seconds) else f"{seconds:.2f}",
            ]
        )
    return format_table(header, rows)


def _microseconds(us):
    return "-" if np.isnan(us) else f"{us:.1f}" if us < 100 else f"{us:,.0f}"


def _states(args):
    tqdm, draw = _drawing("states")
    dataset = load(args.table, args.target)
    out = args.out or Path(f"states-{dataset.name}.png")
    _refuse_unwritable(out)

    splits = [dataset.split(seed) for seed in range(args.seeds)]
    n_train = len(splits[0][0][0])
    epochs = args.epochs or race.default_epochs(n_train, args.batch_size)
    models = models_for(dataset.features.shape[1], dataset.classes)
    _say(
        f"{dataset.name}: {n_train:,} rows to train on; {dataset.verdict}. Adam, {epochs:,} epochs in batches of "
        f"{args.batch_size:,}, {args.seeds} seeds, each with its own split, start and batches."
    )
    curves = [{state: [] for state in states.STATES} for _ in range(len(models) + 1)]
    steps = len(models) * epochs * -(-n_train // args.batch_size) + args.long_steps
    with tqdm(total=args.seeds * len(states.STATES) * steps, unit="step", unit_scale=True, disable=None) as bar:
        for seed, split in enumerate(splits):
            bar.set_description(f"seed {seed}")
            settings = {"epochs": epochs, "batch_size": args.batch_size, "seed": seed, "on_steps": bar.update}
            for model, runs in zip(models, curves):
                for state, of_state in runs.items():
                    of_state.append(states.train(state, model, *split, **settings))
            for state, curve in states.shrink(steps=args.long_steps, seed=seed, on_steps=bar.update).items():
                curves[-1][state].append(curve)
    titles = [f"{model.name}, {model.size:,} parameters" for model in models]
    titles.append(f"noisy quadratic, {states.LONG_SIZE:,} parameters")
    for title, runs in zip(titles, curves):
        print(f"\n{title}\n")
        print(_state_table(runs, dataset.classes))
    print()
    _say(
        "bytes: of state a parameter. loss: mean of the final losses, on the training rows, and of the quadratic after "
        f"{args.long_steps:,} steps in which its gradients shrink by a factor of 10^{states.SHRINKING_DECADES}. "
        "acc, R^2: on the held-out rows. +-: standard deviation over the seeds. change: of the loss against float32's "
        "from the same seed, in the mean."
    )
    axes = [{"xlabel": "epoch", "x": np.arange(epochs + 1)} for _ in models]
    axes.append({"xlabel": "step, gradients shrinking", "x": states.looks(args.long_steps)})
    panels = [{"title": title, "curves": runs, **axis} for title, runs, axis in zip(titles, curves, axes)]
    with _writing(out):
        draw(panels, out, title=f"{dataset.name}: Adam by the storage of its state, means of {args.seeds} seeds")
    print(f"wrote {out}")
    return 0


def _state_table(runs, classes):
    header = ["\nstate", "\nbytes", "final\nloss", "\n+-", "\nchange"]
    scored = not np.isnan(runs["float32"][0].score)
    header += ["test\nacc" if classes else "test\nR^2", "\n+-"] if scored else []
    rows = []
    for state, curves in runs.items():
        losses, scores = ([getattr(curve, name) for curve in curves] for name in ("final", "score"))
        change = states.relative(curves, runs["float32"]) - 1
        row = [state, f"{curves[0].bytes_a_parameter:.2f}", f"{np.mean(losses):#.3g}", f"{np.std(losses, ddof=1):.1g}"]
        row.append(f"{100 * change:+.1f}%" if state != "float32" else "")
        form = "{:.1%}" if classes else "{:.3f}"
        row += [form.format(np.mean(scores)), form.format(np.std(scores, ddof=1))] if scored else []
        rows.append(row)
    return format_table(header, rows)


def _curvature(args):
    tqdm, draw = _drawing("curvature")
    _refuse_unwritable(args.out)
    problem = surface.Surface(args.seed)
    rows, columns = problem.Z.shape
    _say(
        f"A surface of {surface.BUMPS[0]} x {surface.BUMPS[1]} bumps, {problem.size:,} coefficients, is fitted to the "
        f"{np.count_nonzero(problem.seen):,} points measured of {rows} x {columns}. At most {args.iterations:,} "
        "iterations of w -= lr * C.solve(gradient), by downslope.SGD."
    )
    least = surface.least_loss(problem)
    first = problem.loss_and_grad(np.zeros(problem.size))[0]
    reached, drawn = (least + share * (first - least) for share in (surface.REACHED, surface.DRAWN))
    descents = {}
    with tqdm(total=2 * len(surface.STRUCTURES) * args.iterations, unit="iteration", disable=None) as bar:
        for name, structure in surface.STRUCTURES.items():
            bar.set_description(f"{name:<14}")
            settings = {"iterations": args.iterations, "until": drawn, "on_iteration": bar.update}
            descents[name] = [
                surface.descend(problem, structure, momentum=momentum, **settings) for momentum in (False, True)
            ]
    print(f"\n{_curvature_table(descents, reached)}\n")
    _say(
        "KB: of the arrays that C is made of. ms: the median of an iteration, from the gradient to the next. "
        f"iterations, total ms: until {surface.REACHED:g} of the way from the start to the minimum was left; "
        "a dash where that took too many iterations."
    )
    with _writing(args.out):
        draw(descents, least, args.out, title="A surface fitted along directions of each kind of curvature")
    print(f"wrote {args.out}")
    return 0


def _curvature_table(descents, reached):
    header = ["\ncurvature", "\nKB", "\nms", "itera-\ntions", "total\nms", "with\nmomentum", "total\nms"]
    rows = []
    for name, (plain, with_momentum) in descents.items():
        row = [name, f"{plain.nbytes / 1e3:,.0f}", f"{plain.ms:.2f}" if plain.ms < 10 else f"{plain.ms:.0f}"]
        for descent in (plain, with_momentum):
            n = descent.iterations_to(reached)
            row += ["-", "-"] if n is None else [f"{n:,}", f"{n * descent.ms:,.0f}"]
        rows.append(row)
    return format_table(header, rows)


def _minimize(args):
    if args.list:
        print(minimize_problem.listing(PROBLEMS.values()))
        return 0
    problem = _problem(args.problem)
    n = len(problem.x0)
    x0 = problem.x0 if args.start is None else np.array(args.start)
    if len(x0) != n:
        raise CommandError(f"--start must have {n} numbers for {problem.name}, got {len(x0)}")
    path, draw = [x0], None
    if args.plot:
        if n != 2:
            raise CommandError(f"--plot must go with a problem in 2 variables, got {problem.name} in {n}")
        _, draw = _drawing("minimize --plot", "path")
        _refuse_unwritable(args.plot, "--plot")

    options = {name: value for name in ("lr", "maxiter") if (value := getattr(args, name)) is not None}
    try:
        result = minimize_problem.run(problem, args.method, x0, options, draw and (lambda x: path.append(x)))
    except (TypeError, ValueError) as error:  # of a method or an option
        raise CommandError(error) from None
    said = [f"{name} {value:,g}" for name, value in options.items()]
    _say(f"{problem.name} ({problem.source}): {n} variables, by {', '.join([args.method, *said])}")
    print(f"\n{minimize_problem.comparison(problem, x0, result.x)}\n")
    _say(f"{result.nit:,} iterations; {result.nfev:,} evaluations of f and {result.njev:,} of the gradient.")
    _say(result.message)
    if draw:
        with _writing(args.plot, "--plot"):
            draw(problem, np.array(path), args.plot, title=f"{problem.name}, by {args.method}")
        print(f"wrote {args.plot}")
    return 0 if result.success else 1


def _problem(name):
    if name is None:
        raise CommandError("name a problem (see downslope minimize --list)")
    try:
        return PROBLEMS[name.lower()]
    except KeyError:
        raise CommandError(f"unknown problem {name!r} (see downslope minimize --list)") from None


def _info(args):
    print(f"downslope        {ds.__version__}")
    print(f"instruction set  {ds.isa()}")
    print(f"threads          {ds.get_num_threads()}\n")
    for cls in ds.OPTIMIZERS.values():
        _say(f"{cls.__name__:<15}  {cls.source}", indent=17)
    return 0


def _say(text, indent=0):
    """Print a paragraph as wide as the terminal, but neither narrower nor wider than reads well."""
    width = min(max(shutil.get_terminal_size().columns, 20), 100)
    print(textwrap.fill(text, width - 1, subsequent_indent=" " * indent, break_on_hyphens=False))
