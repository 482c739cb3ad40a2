"""specs/stores.md says what the suite tests and what the schema has."""

import re
from pathlib import Path

from sz_shells.stores.sqlite.schema import MIGRATIONS
from tests.contracts.stores import DurableStoreContract

SPEC = (Path(__file__).parents[2] / "specs" / "stores.md").read_text()


def test_every_rule_has_a_test_that_names_it_and_every_test_a_rule() -> None:
    rules = set(re.findall(r"^\| STORE-(\d+) \|", SPEC, re.MULTILINE))
    tested = {name.split("_")[2] for name in dir(DurableStoreContract) if name.startswith("test_store_")}
    assert tested == rules


def test_every_table_and_index_is_explained() -> None:
    statements = [statement for migration in MIGRATIONS for statement in migration.statements]
    made = {match[1] for each in statements if (match := re.match(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX) (\w+)", each))}
    schema = SPEC[SPEC.index("**Schema**") : SPEC.index("### Faults")]
    assert set(re.findall(r"^\| `(\w+)` \|", schema, re.MULTILINE)) == made
