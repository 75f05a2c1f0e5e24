"""A table in plain text."""


def format_table(header, rows):
    """Columns two spaces apart, the first set to the left and the others to the right; header cells have two lines."""
    header = list(zip(*(cell.split("\n") for cell in header)))
    widths = [max(map(len, column)) for column in zip(*header, *rows)]
    rule = ["-" * width for width in widths]
    lines = []
    for first, *rest in [*header, rule, *rows]:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:]))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
