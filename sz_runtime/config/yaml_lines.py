"""YAML read into plain values, with the line of every path.

Built on the parser's events instead of its node tree: events come one after the other, so hostile nesting is stopped
at a depth of our choice (the C composer recurses and crashes the process), and aliases show where they stand.
"""

from typing import Any

import yaml
from attrs import Factory, define

from sz_protocol.wire_values import quote
from sz_runtime.config.problems import Mark, Path, Problem, dotted, problem_at
from sz_runtime.config.scalars import PREFIX, Date, Trap, plain_tag, scalar_value

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 64


@define
class Document:
    """`value` is made of dict (text keys), list, str, int, float, bool and None. `marks` has the place of each path:
    of the key in a mapping, of the item in a list, and () for the first value. `complete` is False when reading had to
    stop early, so that what is missing from `value` may stand in the file. At `trapped` paths stands the text of
    a scalar that was refused already: there is no more to say about it."""

    file: str
    value: Any = None
    marks: dict[Path, Mark] = Factory(dict)
    problems: list[Problem] = Factory(list)
    trapped: set[Path] = Factory(set)
    complete: bool = False

    def mark(self, path: Path) -> Mark:
        """The place of a path, or of the nearest path above it that stands in the file."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))

    def report(self, path: Path, message: str, at: Mark | None = None) -> None:
        """Add a problem."""
        self.problems.append(problem_at(self.file, at or self.mark(path), dotted(path), message))


def read_document(data: bytes | str, file: str) -> Document:
    """Parse a file. Whatever is wrong with it stands in `problems` of the result; nothing is raised."""
    document = Document(file)
    text = _text(data, document)
    if text is not None:
        _Builder(document).build(text)
    return document


def _text(data: bytes | str, document: Document) -> str | None:
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        document.report((), f"is larger than {MAX_BYTES // (1024 * 1024)} MiB, which is no configuration")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        at = Mark(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        hint = " (this looks like UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        document.report((), f"is not UTF-8{hint}; save the file as UTF-8", at)
        return None
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd is not None:
        before_text = text[: odd.start()]
        at = Mark(before_text.count("\n") + 1, odd.start() - (before_text.rfind("\n") + 1) + 1)
        document.report((), f"holds the control character {odd[0]!a}, which YAML does not allow", at)
        return None
    return text


@define
class _Frame:
    """A mapping or list that is being filled. In a mapping `key` is None while a key is expected, and the value of
    a key is thrown away when `discard` is set."""

    path: Path
    value: dict[str, Any] | list[Any]
    key: Any = None
    discard: bool = False
    seen: dict[str, Mark] = Factory(dict)


@define
class _Builder:
    document: Document
    stack: list[_Frame] = Factory(list)
    documents: int = 0
    skip_depth: int = 0
    """How deep we are inside something that is thrown away (a key that is no text)."""

    def build(self, text: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in yaml.parse(text, Loader=loader):
                if not self._take(event):
                    return
            self.document.complete = True
        except yaml.MarkedYAMLError as error:
            self._syntax(error, text)
        except yaml.YAMLError as error:
            self.document.report((), f"is not valid YAML: {' '.join(str(error).split())}")

    def _take(self, event: Any) -> bool:
        """False: give up, nothing after this can be understood."""
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    message = 'begins a second document with "---"; a configuration is one document'
                    self.document.report((), message, _mark(event))
                    return False
            case yaml.CollectionEndEvent():
                self._end()
            case yaml.NodeEvent():
                return self._node(event)
        return True

    def _end(self) -> None:
        if self.skip_depth:
            self.skip_depth -= 1
        else:
            self.stack.pop()

    def _node(self, event: yaml.NodeEvent) -> bool:
        at, path = _mark(event), self._path()
        opens = isinstance(event, yaml.CollectionStartEvent)
        if opens and len(self.stack) + self.skip_depth >= MAX_DEPTH:
            self.document.report(path, f"is nested deeper than {MAX_DEPTH} levels", at)
            return False
        if event.anchor is not None:
            self._anchor(event, path, at)
        if self.skip_depth:
            self.skip_depth += opens
            return True
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event, at)
            return True
        value = self._value(event, path, at)
        self._place(frame, path, value, at)
        if opens:
            self.stack.append(_Frame(path, value))
        return True

    def _path(self) -> Path:
        if not self.stack:
            return ()
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        return frame.path if frame.key is None else (*frame.path, frame.key)

    def _anchor(self, event: yaml.NodeEvent, path: Path, at: Mark) -> None:
        if isinstance(event, yaml.AliasEvent):
            self.document.trapped.add(path)
            message = (
                f"*{event.anchor} is an alias, and those are not read here; write the value out, or quote the text"
            )
        else:
            message = f"&{event.anchor} is an anchor, and those are not read here; take it away"
        self.document.report(path, message, at)

    def _key(self, frame: _Frame, event: yaml.NodeEvent, at: Mark) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            frame.key, frame.discard = "?", True
            if isinstance(event, yaml.CollectionStartEvent):
                self.skip_depth = 1
                self.document.report(frame.path, "a key has to be text, not a mapping or list", at)
            return
        key = event.value
        path = (*frame.path, key)
        tag = plain_tag(key) if event.tag is None and event.implicit[0] else "str"
        if event.tag not in (None, PREFIX + "str", "!"):
            self.document.report(path, "a key cannot have a tag; take it away", at)
        elif tag == "merge":
            self.document.report(path, "merge keys (<<) are not read here; write the keys out", at)
        elif tag not in ("str", "value"):
            meaning = {"bool": "true or false", "null": "empty", "timestamp": "a date"}.get(tag, "a number")
            self.document.report(path, f"this key is {meaning} for YAML; quote it: {quote(key)}", at)
        frame.key, frame.discard = key, key in frame.seen
        if frame.discard:
            first = frame.seen[key].line
            self.document.report(path, f"stands on line {first} already; a key can stand once only", at)
        else:
            frame.seen[key] = at

    def _value(self, event: yaml.NodeEvent, path: Path, at: Mark) -> Any:
        match event:
            case yaml.MappingStartEvent():
                self._collection_tag(event.tag, "map", path, at)
                return {}
            case yaml.SequenceStartEvent():
                self._collection_tag(event.tag, "seq", path, at)
                return []
            case yaml.ScalarEvent():
                return self._scalar(event, path, at)
        return None

    def _collection_tag(self, tag: str | None, usual: str, path: Path, at: Mark) -> None:
        if tag not in (None, "!", PREFIX + usual):
            self.document.report(path, f"the tag {quote(str(tag))} is not read here; take it away", at)

    def _scalar(self, event: yaml.ScalarEvent, path: Path, at: Mark) -> Any:
        if event.tag is None:
            tag = plain_tag(event.value) if event.implicit[0] else "str"
        else:
            tag = "str" if event.tag == "!" else event.tag.removeprefix(PREFIX)
        try:
            value = scalar_value(tag, event.value)
        except Trap as trap:
            self.document.trapped.add(path)
            self.document.report(path, str(trap), at)
            return event.value
        if isinstance(value, Date):
            # Inside a trigger a date can only be a date, and its text is ISO 8601 already.
            if not (len(path) > 3 and path[0] == "schedules" and path[2] == "trigger"):
                self.document.report(path, f'{value.text} is a date for YAML; quote it: "{value.text}"', at)
            return value.text
        if type(value) is str and not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            self.document.report(path, "holds half a character (a lone surrogate); write the whole character", at)
        return value

    def _place(self, frame: _Frame | None, path: Path, value: Any, at: Mark) -> None:
        if frame is None:
            self.document.value = value
            self.document.marks[()] = at
        elif isinstance(frame.value, list):
            self.document.marks.setdefault(path, at)
            frame.value.append(value)
        else:
            if not frame.discard:
                self.document.marks.setdefault(path, frame.seen[frame.key])
                frame.value[frame.key] = value
            frame.key = None

    def _syntax(self, error: Any, text: str) -> None:
        mark = error.problem_mark or error.context_mark
        at = Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)
        lines = text.splitlines()
        line = lines[at.line - 1] if at.line <= len(lines) else ""
        problem = error.problem or error.context or "it cannot be read"
        if "nesting depth" in problem:
            # Newer parsers have a limit of their own and may come upon it before we see the events.
            self.document.report(self._path(), f"is nested deeper than {MAX_DEPTH} levels", at)
            return
        context = f" {error.context}," if error.context and error.problem else ""
        self.document.report(self._path(), f"is not valid YAML:{context} {problem}{_hint(problem, context, line)}", at)


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(1, 1) if start is None else Mark(start.line + 1, start.column + 1)


def _hint(problem: str, context: str, line: str) -> str:
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab" in problem or "'\\t'" in problem:
        return "; indent with spaces, not tabs"
    if "alias" in context:
        return '; a value that begins with * has to be quoted, as in "*/5 * * * *"'
    if "cannot start any token" in problem:
        return "; quote a value that begins with a special sign"
    if "mapping values" in problem:
        return "; quote a value that holds a colon, or mend the indentation"
    return ""
