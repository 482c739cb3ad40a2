"""What the worker of RQ imports: it takes no function of a script."""


def noop() -> int:
    """Nothing."""
    return 1
