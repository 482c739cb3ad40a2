"""Terms: EpochMonotonic, NoStaleEpochWrite."""

from attrs import Factory, define

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import Committed, Rewound, TermTaken


@define
class Fencing(Checker):
    """One holder a term, each later one greater, and nothing written under an old one."""

    terms: dict[str, int] = Factory(dict)

    def routes(self) -> Routes:
        """Terms and transactions."""
        return {TermTaken: self.on_term, Committed: self.on_committed, Rewound: self.on_rewound}

    def on_term(self, record: TermTaken) -> None:
        """EpochMonotonic."""
        if record.term <= self.terms.get(record.node, 0):
            what = f"{record.holder} was given term {record.term} after {self.terms[record.node]}"
            self.report.add("EpochMonotonic", record, what)
        self.terms[record.node] = record.term

    def on_committed(self, record: Committed) -> None:
        """NoStaleEpochWrite."""
        current = self.terms.get(record.node, 0)
        if record.term != record.current or record.current > current:
            what = f"{record.writer} wrote under term {record.term} while the store was at {record.current}"
            self.report.add("NoStaleEpochWrite", record, what)

    def on_rewound(self, record: Rewound) -> None:
        """An older copy has older terms: who restores one has to know that they come again."""
        self.terms.pop(record.node, None)
