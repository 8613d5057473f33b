"""Tools from functions and classes: schemas, descriptions, conversion, and what has no schema."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import json
import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import Context, FunctionTool, Tool, ToolCall, ToolValidationError, UserMessage, dumps, loads, tool
from pi_ai.docstrings import read_docstring
from pi_ai.shapes import Shapes, plain
from pi_ai.tools import strict_parameters, validate_tool_arguments


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Sign(enum.Enum):
    PLUS = (1,)
    MINUS = (2,)


@attrs.define
class Place:
    """Where it is.

    :ivar city: in English
    """

    city: str
    zone: str = "UTC"
    tags: list[str] = attrs.Factory(list)


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Movie(TypedDict):
    """A film."""

    title: str
    year: NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: int = 7


@attrs.define
class Node:
    """A tree."""

    name: str
    children: list[Node] = attrs.Factory(list)
    parent: Node | None = None


@attrs.define
class Even:
    number: int = attrs.field()

    @number.validator
    def _is_even(self, attribute: Any, value: int) -> None:
        if value % 2:
            raise ValueError("number must be even")


Celsius = NewType("Celsius", float)


def shape(annotation: Any) -> tuple[dict[str, Any], Any]:
    shapes = Shapes()
    found = shapes.of(annotation, "it")
    return shapes.complete(found.schema), found.load


CASES = [
    (str, {"type": "string"}, "a", "a"),
    (int, {"type": "integer"}, 5.0, 5),
    (float, {"type": "number"}, 5, 5.0),
    (bool, {"type": "boolean"}, True, True),
    (None, {"type": "null"}, None, None),
    (Any, {}, {"any": [1]}, {"any": [1]}),
    (Celsius, {"type": "number"}, 1.5, 1.5),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
    (Literal["a", 1, True], {"enum": ["a", 1, True]}, 1, 1),
    (Color, {"type": "string", "enum": ["red", "blue"]}, "blue", Color.BLUE),
    (Level, {"type": "integer", "enum": [1, 2]}, 2, Level.HIGH),
    (Sign, {"type": "string", "enum": ["PLUS", "MINUS"]}, "MINUS", Sign.MINUS),
    (list, {"type": "array"}, [1, "a"], [1, "a"]),
    (list[int], {"type": "array", "items": {"type": "integer"}}, [1, 2.0], [1, 2]),
    (Sequence[str], {"type": "array", "items": {"type": "string"}}, ["a"], ["a"]),
    (set[str], {"type": "array", "items": {"type": "string"}}, ["a", "a"], {"a"}),
    (frozenset[int], {"type": "array", "items": {"type": "integer"}}, [1], frozenset([1])),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, [1, 2], (1, 2)),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        [1, "a"],
        (1, "a"),
    ),
    (dict, {"type": "object"}, {"a": 1}, {"a": 1}),
    (dict[str, Any], {"type": "object"}, {"a": 1}, {"a": 1}),
    (
        Mapping[str, date],
        {"type": "object", "additionalProperties": {"type": "string", "format": "date"}},
        {"a": "2024-02-29"},
        {"a": date(2024, 2, 29)},
    ),
    (
        dict[Color, int],
        {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "propertyNames": {"type": "string", "enum": ["red", "blue"]},
        },
        {"red": 1},
        {Color.RED: 1},
    ),
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "5", "5"),
    (
        datetime,
        {"type": "string", "format": "date-time"},
        "2024-02-29T12:00:00Z",
        datetime(2024, 2, 29, 12, tzinfo=UTC),
    ),
    (time, {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"}, "23:59", time(23, 59)),
    (timedelta, {"type": "number", "description": "in seconds"}, 1.5, timedelta(seconds=1.5)),
    (UUID, {"type": "string", "format": "uuid"}, str(UUID(int=7)), UUID(int=7)),
    (Path, {"type": "string"}, "a/b", Path("a/b")),
    (Decimal, {"type": "number"}, 0.1, Decimal("0.1")),
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 1, 1),
    (Annotated[int, {"minimum": 1}], {"type": "integer", "minimum": 1}, 1, 1),
    (
        Place,
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "in English"},
                "zone": {"type": "string", "default": "UTC"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
            "additionalProperties": False,
            "description": "Where it is.",
        },
        {"city": "Oslo", "tags": ["cold"]},
        Place("Oslo", tags=["cold"]),
    ),
    (
        Point,
        {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
            "required": ["x"],
            "additionalProperties": False,
        },
        {"x": 1},
        Point(1.0),
    ),
    (
        Movie,
        {
            "type": "object",
            "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
            "required": ["title"],
            "additionalProperties": False,
            "description": "A film.",
        },
        {"title": "Up"},
        {"title": "Up"},
    ),
    (
        Pair,
        {
            "type": "object",
            "properties": {"left": {"type": "integer"}, "right": {"type": "integer", "default": 7}},
            "required": ["left"],
            "additionalProperties": False,
        },
        {"left": 1},
        Pair(1),
    ),
]


@pytest.mark.parametrize(("annotation", "schema", "data", "value"), CASES, ids=[str(case[0]) for case in CASES])
def test_a_type_has_a_schema_and_its_json_becomes_its_value(annotation, schema, data, value):
    found, load = shape(annotation)
    assert found == schema
    loaded = load(data)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(("annotation", "schema", "data", "value"), CASES, ids=[str(case[0]) for case in CASES])
def test_what_a_loader_makes_is_written_as_json_that_it_takes(annotation, schema, data, value):
    found, load = shape(annotation)
    written = json.loads(json.dumps(plain(value)))
    assert load(written) == value
    wrapped = Tool("t", "", {"type": "object", "properties": {"it": found}})
    assert validate_tool_arguments(wrapped, ToolCall("1", "t", {"it": written})) is not None


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [
        (str, 1),
        (int, True),
        (int, 1.5),
        (float, "1"),
        (bool, 1),
        (None, 0),
        (Literal[1], True),
        (Color, "green"),
        (Color, ["red"]),
        (list[int], [1, "a"]),
        (list[int], {"a": 1}),
        (tuple[int, str], [1]),
        (dict[str, int], {"a": "b"}),
        (int | str, 1.5),
        (UUID, "x"),
        (datetime, "yesterday"),
        (Place, {"zone": "UTC"}),
        (Place, {"city": "Oslo", "country": "Norway"}),
        (Place, "Oslo"),
        (Even, {"number": 3}),
    ],
)
def test_what_is_none_of_a_type_is_refused(annotation, wrong):
    with pytest.raises(ValueError):
        shape(annotation)[1](wrong)


def test_a_union_of_classes_is_told_apart_by_the_fields():
    schema, load = shape(Place | Point | list[Pair])
    assert load({"x": 1, "y": 2}) == Point(1, 2)
    assert load({"city": "Oslo"}) == Place("Oslo")
    assert load([{"left": 1}]) == [Pair(1)]
    assert len(schema["anyOf"]) == 3


def test_a_class_that_contains_itself_is_a_definition():
    schema, load = shape(Node)
    assert schema["type"] == "object"
    assert schema["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert schema["properties"]["parent"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"].keys() == {"Node"}
    tree = {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}], "parent": {"name": "d"}}
    assert load(tree) == Node("a", [Node("b", [Node("c")])], Node("d"))
    call = ToolCall("1", "t", {"tree": {"name": "a", "children": {"name": 5}}})  # coerced, twice

    def grow(tree: Node) -> None: ...

    assert tool(grow).bind(call).keywords == {"tree": Node("a", [Node("5")])}


def test_two_classes_of_one_name_are_two_definitions():
    def make() -> Any:
        @attrs.define
        class Node:
            next: Node | None = None

        def link(first: Node) -> None: ...

        return tool(link), Node

    made, other = make()

    def both(one: Node, two: other) -> None: ...  # pyright: ignore[reportInvalidTypeForm]

    assert made.parameters["$defs"].keys() == {"Node"}
    assert tool(both).parameters["$defs"].keys() == {"Node"}  # other hides its annotation behind a name of its own
    shapes = Shapes({"Node": other})
    shapes.of(other, "it")
    assert shapes.of(Node, "it").schema == {"$ref": "#/$defs/Node2"}


@attrs.frozen
class Ge:
    ge: float


@attrs.frozen
class Length:
    min_length: int
    max_length: int | None = None


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Annotated[int, Ge(1)], {"type": "integer", "minimum": 1}),
        (Annotated[str, Length(1, 5)], {"type": "string", "minLength": 1, "maxLength": 5}),
        (Annotated[list[str], Length(1)], {"type": "array", "items": {"type": "string"}, "minItems": 1}),
        (Annotated[dict[str, Any], Length(1)], {"type": "object", "minProperties": 1}),
        (
            Annotated[list[int] | None, Length(2)],
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}], "minItems": 2},
        ),
    ],
)
def test_notes_of_annotations_limit(annotation, schema):
    assert shape(annotation)[0] == schema


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────


@tool
async def get_weather(city: str, unit: Literal["C", "F"] = "C", days: int | None = None) -> str:
    """The weather now.

    And tomorrow's.

    :param city: its name
        in English
    :param days: how many
    :returns: a sentence
    """
    return f"{city} {unit} {days}"


def test_a_function_is_a_tool():
    assert isinstance(get_weather, Tool)
    assert get_weather == Tool(
        "get_weather",
        "The weather now.\n\nAnd tomorrow's.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "its name in English"},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "integer", "description": "how many"},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    )
    assert get_weather.is_async


async def test_it_still_is_the_function():
    assert await get_weather("Oslo", unit="F") == "Oslo F None"


test_it_still_is_the_function = pytest.mark.anyio(test_it_still_is_the_function)


def test_it_is_written_and_read_as_a_plain_tool():
    context = Context([UserMessage("Hi", timestamp=1)], tools=[get_weather])
    read = loads(Context, dumps(context))
    assert type(read.tools[0]) is Tool
    assert read == context
    assert "function" not in dumps(context)
    assert get_weather != "get_weather"


def shouted(text: str) -> str:
    return text.upper()


def test_it_can_be_pickled_and_copied():
    assert pickle.loads(pickle.dumps(get_weather)) is get_weather
    made = tool(shouted, name="shout", description="Loud", strict="prefer")
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again("a") == "A"
    copied = copy.deepcopy(Context([], tools=[made]))
    assert copied.tools == [made]
    assert copied.tools[0].parameters is not made.parameters
    assert isinstance(copied.tools[0], FunctionTool)


def test_arguments_are_coerced_checked_and_converted():
    @tool
    def book(when: date, people: set[str], place: Place, level: Level = Level.LOW, note: str | None = None) -> None: ...

    call = ToolCall(
        "1", "book", {"when": "2024-02-29", "people": "Ann", "place": '{"city": "Oslo"}', "level": "2", "note": None}
    )
    bound = book.bind(call)
    assert bound.keywords == {
        "when": date(2024, 2, 29),
        "people": {"Ann"},
        "place": Place("Oslo"),
        "level": Level.HIGH,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "city: missing"),
        ({"city": []}, "city: expected string, got array"),
        ({"city": "Oslo", "unit": "K"}, 'unit: expected one of ["C","F"]'),
        ({"city": "Oslo", "country": "N"}, "country: unknown field"),
    ],
)
def test_what_a_tool_does_not_take_is_told_to_the_model(arguments, words):
    with pytest.raises(ToolValidationError) as raised:
        get_weather.bind(ToolCall("1", "get_weather", arguments))
    assert words in str(raised.value)


def test_what_only_the_class_refuses_is_told_to_the_model_too():
    @tool
    def halve(even: Even) -> int:
        return even.number // 2

    with pytest.raises(ToolValidationError, match='Invalid arguments for tool "halve": Even: number must be even'):
        halve.bind(ToolCall("1", "halve", {"even": {"number": 3}}))


def test_parameters_by_position_only_get_there():
    @tool
    def divide(a: int, b: int = 2, /, *, exact: bool = False) -> float:
        return a / b

    assert divide.bind(ToolCall("1", "divide", {"a": 9, "b": 3}))() == 3
    assert divide.bind(ToolCall("1", "divide", {"exact": True, "a": 9}))() == 4.5


def test_methods_partial_functions_and_objects_that_can_be_called_are_tools():
    class Counter:
        """Counts."""

        def __init__(self) -> None:
            self.total = 0

        def add(self, number: int) -> int:
            """Add it."""
            self.total += number
            return self.total

        async def __call__(self, number: int) -> int:
            return self.add(number)

    counter = Counter()
    add = tool(counter.add)
    assert (add.name, add.description) == ("add", "Add it.")
    assert add.bind(ToolCall("1", "add", {"number": 2}))() == 2
    assert tool(counter, name="count").is_async
    five = tool(functools.partial(counter.add, number=5), name="five")
    assert five.bind(ToolCall("1", "five", {}))() == 7
    assert list(tool(functools.partial(get_weather.function, "Oslo"), name="w").parameters["properties"]) == [
        "unit",
        "days",
    ]
    assert tool(functools.partial(get_weather.function, "Oslo"), name="w").is_async


def test_a_class_is_a_tool_and_runs_if_it_can_be_called():
    @tool(name="go")
    @attrs.define
    class Go:
        """Go there."""

        place: Place
        fast: bool = False

        def __call__(self) -> str:
            return f"{self.place.city} {self.fast}"

    assert (Go.name, Go.description) == ("go", "Go there.")
    assert Go.bind(ToolCall("1", "go", {"place": {"city": "Oslo"}}))() == "Oslo False"
    assert Go(Place("Rome")).place == Place("Rome")
    assert tool(Point).bind(ToolCall("1", "Point", {"x": 1}))() == Point(1.0)


def test_defaults_are_told_where_json_can_say_them():
    def find(
        color: Color = Color.RED,
        since: date = date(2024, 2, 29),
        key: Any = ...,
        near: Place | None = None,
        name: str = None,  # noqa: RUF013 - what people write
    ) -> None: ...

    found = tool(find).parameters
    assert "required" not in found
    assert {name: schema.get("default") for name, schema in found["properties"].items()} == {
        "color": "red",
        "since": "2024-02-29",
        "key": None,
        "near": None,
        "name": None,
    }
    assert found["properties"]["near"]["type"] == "object"  # to leave it out says the same
    assert tool(find).bind(ToolCall("1", "find", {"near": None, "name": None, "key": None})).keywords == {"key": None}


def test_fields_that_init_does_not_take_are_no_parameters():
    @dataclasses.dataclass
    class Box:
        size: int = dataclasses.field(metadata={"description": "in litres"})
        full: bool = dataclasses.field(default=False, init=False)
        tags: list[str] = dataclasses.field(default_factory=list)

    @attrs.define
    class Crate:
        _size: int = attrs.field(metadata={"description": "in litres"})
        full: bool = attrs.field(default=False, init=False)

    for cls, names in ((Box, ["size", "tags"]), (Crate, ["size"])):
        parameters = tool(cls).parameters
        assert list(parameters["properties"]) == names
        assert parameters["properties"]["size"] == {"type": "integer", "description": "in litres"}
        assert parameters["required"] == ["size"]
    assert plain(Crate(5)) == {"size": 5}


def test_a_plain_class_is_a_tool_by_its_constructor():
    class Greeter:
        """Greets."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self) -> str:
            return f"Hello {self.name}"

    made = tool(Greeter)
    assert (made.description, list(made.parameters["properties"])) == ("Greets.", ["name"])
    assert made.bind(ToolCall("1", "Greeter", {"name": "Ann"}))() == "Hello Ann"


@pytest.mark.parametrize("strict", ["prefer", "require"])
def test_a_strict_tool_has_a_schema_that_can_be_enforced_CS1(strict):
    def plan(place: Place, color: Color = Color.RED, stops: list[str] | None = None) -> None: ...

    made = tool(plan, strict=strict)
    assert made.constrained_sampling == {"type": "json_schema", "strict": strict}
    schema = strict_parameters(made, supported=True)
    assert schema["required"] == ["place", "color", "stops"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["place"]["required"] == ["city", "zone", "tags"]
    assert "default" not in json.dumps(schema)
    call = ToolCall("1", "plan", {"place": {"city": "Oslo", "zone": None, "tags": None}, "color": None, "stops": None})
    assert made.bind(call).keywords == {"place": Place("Oslo")}  # CS4


def _no_annotation(city): ...
def _no_schema(number: complex): ...
def _no_schema_inside(numbers: list[complex]): ...
def _anything(*cities: str): ...
def _keys(numbers: dict[int, str]): ...
def _unknown(city: Nowhere): ...  # noqa: F821
def _bytes(value: Literal[b"a"]): ...
def _generator(city: str):
    yield city


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_no_annotation, "_no_annotation: the parameter city has no annotation; write city: str"),
        (_no_schema, "_no_schema.number: complex has no JSON Schema; use str"),
        (_no_schema_inside, "_no_schema_inside.numbers: complex has no JSON Schema"),
        (_anything, r"_anything: \*cities.* has no schema; name each parameter"),
        (_bytes, "_bytes.value: the values of a Literal must be text, numbers, booleans or None"),
        (_keys, "the keys of a JSON object are text"),
        (_unknown, "_unknown: an annotation cannot be resolved: name 'Nowhere' is not defined"),
        (_generator, "a generator has none"),
        (lambda: None, "the name of a tool is .*give one: tool\\(function, name=…\\)"),
        (5, "a tool is made of a function or a class, not of a int"),
    ],
)
def test_what_cannot_be_a_tool_says_why_and_the_way_out(function, words):
    with pytest.raises(TypeError, match=words):
        tool(function)


def test_a_field_of_a_class_is_named_with_its_class():
    @attrs.define
    class Wave:
        phase: complex

    def make(wave: Wave) -> None: ...

    with pytest.raises(TypeError, match=r"^Wave\.phase: complex"):
        tool(make)


# ── docstrings ───────────────────────────────────────────────────────────────────────────────────────────────

GOOGLE = """Find it.

    More words:
    and more.

    Args:
        name (str, optional): whose
            name it is
        *rest: the rest: of it

    Returns:
        Something: else

    At last.
    """
NUMPY = """Find it.

    More words:
    and more.

    Parameters
    ----------
    name : str, optional
        whose
        name it is
    rest
        the rest: of it

    Returns
    -------
    Something
        else
    """
SPHINX = """Find it.

    More words:
    and more.

    :param str name: whose
        name it is
    :param rest: the rest: of it
    :returns: Something
    :rtype: else
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_a_docstring_is_read_in_each_style(text):
    read = read_docstring(text)
    assert read.members == {"name": "whose name it is", "rest": "the rest: of it"}
    assert read.text.removesuffix("\n\nAt last.") == "Find it.\n\nMore words:\nand more."


@pytest.mark.parametrize("text", [None, "", "One: two", "Args", "Note:\n    this", ":not a field", "----", "Args:\n"])
def test_what_has_no_sections_is_all_text(text):
    assert read_docstring(text).members == {}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*GOOGLE.splitlines(), *NUMPY.splitlines(), *SPHINX.splitlines(), "  ", "x"])))
def test_any_docstring_is_read(lines):
    read = read_docstring("\n".join(lines))
    assert all(name.isidentifier() and text for name, text in read.members.items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["city", "name", "x"]), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(json_values, st.sampled_from([case[0] for case in CASES] + [Node, Place | Point | int]))
def test_a_loader_takes_any_json_or_raises_a_value_error(data, annotation):
    _, load = shape(annotation)
    try:
        load(data)
    except ValueError:
        pass
