"""Reading YAML: plain values, a line for every path, and the traps of YAML 1.1."""

from typing import Any

import pytest
import yaml

from sz_runtime.config.yaml_lines import MAX_BYTES, Document, read_document


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: the C one is missing where there was no compiler."""
    if request.param == "Python":
        monkeypatch.setattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return str(request.param)


def problems(data: str | bytes) -> list[str]:
    return [str(problem) for problem in read_document(data, "f").problems]


def test_values_and_lines() -> None:
    document = read_document("a: 1\nb:\n  - x\n  - {c: [true, ~, 2.5]}\ntext: |\n  two\n  lines\n", "f")
    assert document.value == {"a": 1, "b": ["x", {"c": [True, None, 2.5]}], "text": "two\nlines\n"}
    assert document.complete
    assert not document.problems
    lines = {path: mark.line for path, mark in document.marks.items()}
    assert lines[("a",)] == 1
    assert lines[("b", 1, "c", 2)] == 4
    assert lines[("text",)] == 5
    assert document.mark(("b", 1, "nothing", "here")).line == 4


SCALARS: dict[str, Any] = {"0x1f": 31, "1_000": 1000, "-7": -7, "08": "08", "1e3": "1e3", "True": True, "=": "="}
SCALARS |= {"": None, "'no'": "no", '"010"': "010", "!!str 3": "3", '!!int "3"': 3, "! 3": "3", ".5": 0.5}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars(text: str, value: Any) -> None:
    document = read_document(f"a: {text}", "f")
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)
    assert not document.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no", 'read as false by YAML; write false, or "no" for the text'),
        ("Yes", 'read as true by YAML; write true, or "Yes" for the text'),
        ("on", "write true"),
        ("010", 'the octal number 8 for YAML; write 10 or 8, or "010" for the text'),
        ("12:30:00", 'read as 45000 (base sixty) by YAML; quote it: "12:30:00"'),
        ("12:30.5", "base sixty"),
        ("2024-01-01", 'is a date for YAML; quote it: "2024-01-01"'),
        ("2024-13-45", "is a date for YAML"),
        ("9" * 5000, "5000 digits"),
        ("&x 1", "&x is an anchor"),
        ("*x", "*x is an alias, and those are not read here; write the value out, or quote the text"),
        ("{<<: {b: 1}}", "merge keys (<<) are not read here"),
        ("!!python/object:os.system x", "the tag !python/object:os.system is not read here"),
        ("!mine [1]", 'the tag "!mine" is not read here'),
        ("!!int x", "x is no whole number"),
        ("!!float x", "x is no number"),
        ("!!bool x", "x is neither true nor false"),
        ("{on: 1}", 'this key is true or false for YAML; quote it: "on"'),
        ("{3: 1}", 'this key is a number for YAML; quote it: "3"'),
        ("{~: 1}", "this key is empty"),
        ("{2024-01-01: 1}", "this key is a date"),
        ("{[b]: 1}", "a key has to be text"),
        ("{!!int b: 1}", "a key cannot have a tag"),
        ("* * * * *", 'a value that begins with * has to be quoted, as in "*/5 * * * *"'),
        ("*/5 * * * *", "has to be quoted"),
        ("@daily", "quote a value that begins with a special sign"),
        ("b: c", "quote a value that holds a colon, or mend the indentation"),
        ("\n\tb: 1", "indent with spaces, not tabs"),
        ("[1", "is not valid YAML"),
        ('"b', "is not valid YAML"),
    ],
)
def test_traps_say_what_to_write_instead(text: str, message: str) -> None:
    found = problems(f"x: 1\na: {text}")
    assert len(found) == 1
    assert found[0].startswith(("f:2: ", "f:3: "))
    assert message in found[0]


def test_a_key_that_stands_twice_names_both_lines() -> None:
    assert problems("a: 1\nb:\n  c: 1\n  c: {d: no}\na: 2\n") == [
        "f:4: b.c: stands on line 3 already; a key can stand once only",
        'f:4: b.c.d: no is read as false by YAML; write false, or "no" for the text',
        "f:5: a: stands on line 1 already; a key can stand once only",
    ]


def test_the_first_of_two_equal_keys_is_kept() -> None:
    assert read_document("a: 1\na: {b: 2}\n", "f").value == {"a": 1}


def test_what_is_wrong_before_a_syntax_error_is_reported_too() -> None:
    found = problems("a: no\nb: [1\nc: 2")
    assert [line.split(":")[1] for line in found] in (["1", "3"], ["1", "2"])


def test_dates_inside_a_trigger_are_their_own_text() -> None:
    text = "schedules:\n  - trigger: {run_date: 2030-01-01 12:00:00, dates: [2030-01-01]}\n    params: {d: 2030-01-01}"
    document = read_document(text, "f")
    trigger = document.value["schedules"][0]["trigger"]
    assert trigger == {"run_date": "2030-01-01 12:00:00", "dates": ["2030-01-01"]}
    assert [problem.key for problem in document.problems] == ["schedules[0].params.d"]


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"a: 1\nb: x\xff", "f:2", "is not UTF-8"),
        ("a: 1".encode("utf-16"), "f:1", "UTF-16"),
        (b"a: 1\nb: \x07", "f:2", "control character '\\x07'"),
        ("---\na: 1\n---\nb: 1\n", "f:3", "second document"),
        ("a: \ud800", "f:1", "is not UTF-8"),
        ("a: " + "x" * MAX_BYTES, "f:1", "larger than 8 MiB"),
    ],
)
def test_what_is_no_text(data: str | bytes, place: str, message: str) -> None:
    (found,) = problems(data)
    assert found.startswith(f"{place}: ")
    assert message in found


@pytest.mark.parametrize("data", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_nothing(data: str) -> None:
    document = read_document(data, "f")
    assert (document.value, document.problems) == (None, [])


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert read_document(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f").value == {"a": 1, "b": 2}


@pytest.mark.parametrize("data", ["[" * 100_000, "{a: " * 10_000, "- " * 50_000, "? " * 50_000])
def test_hostile_nesting_is_refused_and_does_not_crash(data: str) -> None:
    document: Document = read_document(data, "f")
    assert "nested deeper than 64 levels" in document.problems[-1].message
    assert not document.complete
    assert len(str(document.problems[-1])) < 400


def test_a_lone_surrogate_from_an_escape_is_refused() -> None:
    assert len(problems('a: "\\ud800"')) == 1
