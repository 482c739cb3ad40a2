"""A third party's module that cannot be imported, for no lack of a package."""

raise RuntimeError("no such device")
