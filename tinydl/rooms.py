"""Rooms whose names are those of their files: to add one is to add a file with `__all__`."""

from __future__ import annotations

import importlib
import pkgutil


def collect(package: str) -> list[str]:
    """Import a package's own modules, in the order of their names; what their `__all__` name is public in it.

    For the package's `__init__`: ``__all__ = collect(__name__)``. A module without `__all__` offers nothing;
    a subpackage is a room of its own and stays outside.

    Raises:
        ImportError: two modules offer the same name.
    """
    room = importlib.import_module(package)
    homes: dict[str, str] = {}
    for found in sorted(pkgutil.iter_modules(room.__path__), key=lambda found: found.name):
        if found.ispkg:
            continue
        module = importlib.import_module(f"{package}.{found.name}")
        for name in getattr(module, "__all__", ()):
            if name in homes:
                raise ImportError(f"{package}: {name} is in {homes[name]} and in {module.__name__}")
            homes[name] = module.__name__
            setattr(room, name, getattr(module, name))
    return list(homes)
