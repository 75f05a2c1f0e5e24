"""Datasets, models, races and the command line. It stands on the public API alone, as a user's own code would."""
