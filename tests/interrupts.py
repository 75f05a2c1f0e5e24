"""A Ctrl-C at a chosen place."""

import sys
from pathlib import Path

import downslope as ds

PACKAGE = str(Path(ds.__file__).parent)


def interrupted(call, at, *more_files):
    """Make the call, with an interrupt before line number `at` of the package's own; whether it came to that.

    Lines of `more_files` count, too.
    """
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if not frame.f_code.co_filename.startswith((PACKAGE, *more_files)):
            return None
        if event == "line":
            passed += 1
            if passed > at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
