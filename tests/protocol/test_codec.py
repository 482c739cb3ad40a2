"""The wire: byte-exact vectors, limits, and nothing but DecodeError from whatever arrives (specs/wire.md)."""

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from attrs import NOTHING

from sz_protocol import codec
from sz_protocol.codec import MAX_BYTES, MAX_CONTAINERS, MAX_DEPTH, MAX_ITEMS, as_markdown, decode, encode, slots
from sz_protocol.commands import Apply, Done, Pause, RunNow
from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.messages import (
    TAGS,
    TO_CONTROL_CLIENT,
    TO_CONTROL_SERVER,
    TO_HANDLER,
    TO_HANDLER_SERVER,
    Ask,
    GetStatus,
    Reload,
    Told,
)

SPECS = Path(__file__).parents[2] / "specs"
VECTORS: list[dict[str, Any]] = json.loads((SPECS / "vectors" / "wire.json").read_text(encoding="utf-8"))
LINKS = {
    "server": TO_CONTROL_SERVER,
    "client": TO_CONTROL_CLIENT,
    "handler_server": TO_HANDLER_SERVER,
    "handler": TO_HANDLER,
}
DEFINITION = definition_from_wire(
    {
        "id": "nightly",
        "handler_id": "reports",
        "method": "build",
        "trigger": {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"},
        "params": {"full": True},
    }
)


def plain(value: Any) -> Any:
    """A frame as the vectors' JSON shows it."""
    match value:
        case bytes():
            return {"bytes": value.hex()}
        case list():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_the_vectors_hold_byte_for_byte(vector: dict[str, Any]) -> None:
    data, expected = bytes.fromhex(vector["hex"]), LINKS[vector["to"]]
    if vector.get("refused"):
        with pytest.raises(DecodeError):
            decode(data, expected)
        return
    assert plain(msgpack.unpackb(data)) == vector["frame"], "the JSON beside it says the same"
    assert encode(decode(data, expected)).hex() == vector.get("canonical", vector["hex"])


def test_the_vectors_mean_what_they_say() -> None:
    by_name = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in VECTORS}
    assert decode(by_name["pause"], TO_CONTROL_SERVER) == Ask(2, Pause("nightly", "the database moves"))
    assert decode(by_name["apply one definition"], TO_CONTROL_SERVER) == Ask(1, Apply((DEFINITION,), prune=True))
    assert decode(by_name["reload"], TO_CONTROL_SERVER) == Ask(7, Reload())
    assert decode(by_name["done"], TO_CONTROL_CLIENT) == Told(4, Done("00112233445566778899aabbccddeeff"))


def test_every_message_has_a_valid_vector() -> None:
    seen = {tag for vector in VECTORS if "frame" in vector for tag in _tags(vector["frame"][1:])}
    assert seen == set(TAGS.values())


def _tags(pair: Any) -> list[str]:
    tag, fields = pair
    inner = [value for value in fields.values() if isinstance(value, list) and value and value[0] in TAGS.values()]
    return [tag, *(found for value in inner for found in _tags(value))]


def test_the_specs_hold_the_table_of_the_code() -> None:
    text = (SPECS / "wire.md").read_text(encoding="utf-8")
    assert as_markdown() in text
    for limit in (MAX_BYTES, MAX_DEPTH, MAX_ITEMS, MAX_CONTAINERS):
        assert f"{limit:,}" in text


def test_every_field_with_a_default_may_be_missing_and_no_other() -> None:
    for record, tag in TAGS.items():
        required = [slot.name for slot in slots(record) if slot.default is NOTHING]
        frame = msgpack.packb([1, tag, {}])
        if required:
            with pytest.raises(DecodeError, match=f"{record.__name__} lacks the field {required[0]}"):
                decode(frame, (record,))
        else:
            assert decode(frame, (record,)) == record()


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


def test_depth_16_passes_and_17_does_not() -> None:
    deepest = Ask(1, RunNow("h", "m", "k", {"a": nested(11)}))
    assert decode(encode(deepest), TO_CONTROL_SERVER) == deepest
    with pytest.raises(LocalProtocolError, match="deeper"):
        encode(Ask(1, RunNow("h", "m", "k", {"a": nested(12)})))
    for levels, passes in ((14, True), (15, False), (500, False), (100_000, False)):
        unknown = b"\x91" * levels + b"\xc0"
        frame = b"\x93\x01\xaaget_status\x81\xa1x" + unknown
        if passes:
            assert decode(frame, (GetStatus,)) == GetStatus()
        else:
            with pytest.raises(DecodeError):
                decode(frame, (GetStatus,))


def test_sizes_are_bounded_before_memory_is_spent() -> None:
    many_maps = msgpack.packb([1, "get_status", {"x": [[{}] * 1000] * 101}])
    too_long = msgpack.packb([1, "get_status", {"x": [0] * (MAX_ITEMS + 1)}])
    for frame, said in (
        (b"\x00" * (MAX_BYTES + 1), f"a frame of {MAX_BYTES + 1} bytes"),
        (many_maps, f"more than {MAX_CONTAINERS} arrays and maps"),
        (too_long, "exceeds"),
    ):
        with pytest.raises(DecodeError, match=said):
            decode(frame, (GetStatus,))


def test_what_no_peer_would_take_is_not_sent() -> None:
    for bad, said in (
        (Pause("a", "x" * MAX_BYTES), "are the limit"),
        (Ask(1 << 63, Reload()), "beyond 64 bits"),
        (Ask("1", Reload()), "has to be a whole number"),  # type: ignore[arg-type]
        (Pause("a", "\ud800"), "surrogates not allowed"),
        (RunNow("h", "m", "k", {"at": object()}), "no plain value"),
        (DEFINITION, "is no message"),
    ):
        with pytest.raises(LocalProtocolError, match=said):
            encode(bad)


def test_a_third_type_of_annotation_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError, match="no form"):
        codec.form_of(float)


def test_every_record_of_the_contract_can_be_coded() -> None:
    for record in TAGS:
        assert all(slot.form.text for slot in slots(record))
    assert set(TAGS) >= {record for link in LINKS.values() for record in link}
    assert len(set(TAGS.values())) == len(TAGS)
