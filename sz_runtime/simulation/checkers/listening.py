"""What listens to a trace says which records it wants."""

from collections.abc import Callable
from typing import Any

from sz_runtime.simulation.facts import Noted

Routes = dict[type[Noted], Callable[[Any], None]]
