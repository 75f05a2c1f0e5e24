"""A progress bar, by tqdm, which only those need who ask for one."""

from contextlib import contextmanager


@contextmanager
def progress_bar(wanted, total, done, unit):
    """A function ``advance(fun)`` that moves the bar on and shows the objective; without a bar it does nothing.

    Raises ImportError if a bar is wanted and tqdm isn't there.
    """
    if not wanted:
        yield lambda fun=None, by=1: None
        return
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs the library tqdm: pip install 'downslope[demo]'") from error
    with tqdm(total=total, initial=done, unit=unit) as bar:

        def advance(fun=None, by=1):
            if fun is not None:
                bar.set_postfix_str(f"fun={fun:.4g}", refresh=False)
            bar.update(by)

        yield advance


@contextmanager
def problem_bar(wanted, total):
    """A function ``progress(done)`` that shows how many of so many problems are done, or None without a bar."""
    with progress_bar(wanted, total, done=0, unit="problem") as advance:
        shown = 0

        def progress(done):
            nonlocal shown
            advance(by=done - shown)
            shown = done

        yield progress if wanted else None
        progress(total)
