"""Tools from Python functions and classes: ``@tool``.

The name, the signature and the docstring are the tool; the arguments of a call become what the annotations say. What
a model may write wrongly is set right or refused first (``tools.py``); running it is ``agents.py``'s business.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

import attrs

from pi_ai.docstrings import read_docstring
from pi_ai.shapes import Member, NoSchema, Shapes, docstring_of, hints_of, is_record, members_of
from pi_ai.tools import ToolValidationError, validate_tool_arguments
from pi_ai.types import NOT_DATA, JSONObject, Tool, ToolCall

P = ParamSpec("P")
R = TypeVar("R")
Strict = Literal["prefer", "require"]


@attrs.define(eq=False)
class FunctionTool(Tool, Generic[P, R]):  # noqa: PLW1641 - no tool has a hash
    """A tool that can be run: a function with its name, description and parameters. Made by :func:`tool`.

    It is a :class:`Tool` everywhere else, and reads and writes as one. Called, it is the function.

    :ivar function: the function, or the class. ``is_async``: whether it has to be awaited.
    """

    function: Callable[P, R] = attrs.field(kw_only=True, metadata=NOT_DATA)
    is_async: bool = attrs.field(kw_only=True, metadata=NOT_DATA, repr=False)
    _load: Callable[[Any], dict[str, Any]] = attrs.field(alias="load", kw_only=True, metadata=NOT_DATA, repr=False)
    _positional: dict[str, Any] = attrs.field(alias="positional", kw_only=True, metadata=NOT_DATA, repr=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def bind(self, call: ToolCall) -> Callable[[], Any]:
        """The function with the arguments of a call: coerced, checked, and converted to what the annotations say.

        :raises ToolValidationError: the tool does not take them; the text is for the model.
        """
        arguments = validate_tool_arguments(self, call)
        try:
            values = self._load(arguments)
        except ValueError as error:
            raise ToolValidationError(f'Invalid arguments for tool "{self.name}": {error}') from error
        positional = [values.pop(name, default) for name, default in self._positional.items()]
        bound = partial(cast("Callable[..., Any]", self.function), *positional, **values)
        return partial(_run, bound) if _is_runnable_class(self.function) else bound

    def __eq__(self, other: object) -> bool:
        """As tools, by value."""
        if not isinstance(other, Tool):
            return NotImplemented
        return _data(self) == _data(other)

    def __reduce__(self) -> tuple[Any, ...]:
        # A decorated function has no name of its own any more: its module knows the tool by it.
        module, name = self.function.__module__, getattr(self.function, "__qualname__", "")
        if _find(module, name) is self:
            return _find, (module, name)
        return _remade, (self.function, *_data(self))

    def __deepcopy__(self, memo: object) -> FunctionTool[P, R]:
        return attrs.evolve(self, parameters=copy.deepcopy(self.parameters))


def _data(tool: Tool) -> tuple[Any, ...]:
    return tool.name, tool.description, tool.parameters, tool.constrained_sampling


def _find(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module) or __import__(module, fromlist=["_"])
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _remade(function: Any, name: str, description: str, parameters: JSONObject, sampling: Any) -> Tool:
    made = _made(function, name, description, None, {})
    return attrs.evolve(made, parameters=parameters, constrained_sampling=sampling)


def _run(bound: Callable[[], Any]) -> Any:
    return bound()()


def _is_runnable_class(function: Any) -> bool:
    return isinstance(function, type) and "__call__" in dir(function)


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: Strict | None = None,
) -> FunctionTool[P, R]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, strict: Strict | None = None
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: Strict | None = None,
) -> Any:
    """Make a tool of a function, sync or async::

        @tool
        async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
            \"\"\"The weather now.

            :param city: its name in English
            \"\"\"
            return await forecast(city, unit)

    The schema comes from the annotations, the descriptions from the docstring (Google's, NumPy's or Sphinx's style) or
    from ``Annotated[str, "name of the city"]``, which may also limit: ``Annotated[int, {"minimum": 1}]``, or anything
    like annotated-types. An attrs class, a dataclass, a TypedDict or a NamedTuple is a tool, too: its fields are the
    parameters, and its ``__call__``, if it has one, is what runs.

    :param name: default: the function's.
    :param description: default: the docstring.
    :param strict: have the provider hold calls to the schema: ``"prefer"``, where it can; ``"require"``, else the
        request fails (core CS2).
    :raises TypeError: a parameter has no annotation, or one that has no schema; the text names it and the way out.
    """
    names = names_around()
    if function is None:
        return partial(_made, name=name, description=description, strict=strict, names=names)
    return _made(function, name, description, strict, names)


def names_around() -> dict[str, Any]:
    """What is defined where the caller was called: annotations of functions and classes inside of it may name it."""
    frame = inspect.currentframe()
    frame = frame and frame.f_back and frame.f_back.f_back
    return dict(frame.f_locals) if frame and frame.f_code.co_name != "<module>" else {}


def _made(
    function: Any, name: str | None, description: str | None, strict: Strict | None, names: Mapping[str, Any]
) -> FunctionTool[..., Any]:
    if not callable(function):
        raise TypeError(f"a tool is made of a function or a class, not of a {type(function).__name__}")
    name = str(name or getattr(inspect.unwrap(function), "__name__", ""))
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        letters = "1 to 64 letters, digits, _ and -"
        raise TypeError(f"the name of a tool is {letters}, not {name!r}; give one: tool(function, name=…)")
    plain = _without_partial(function)
    body = plain if hasattr(plain, "__code__") else plain.__call__
    if inspect.isasyncgenfunction(body) or inspect.isgeneratorfunction(body):
        raise TypeError(
            f"{name}: a tool returns its result; a generator has none. Collect what it yields, and return it"
        )
    shapes = Shapes(names, defaults=strict is None)
    if is_record(function):
        members, said = members_of(function, names), docstring_of(function)
        positional: dict[str, Any] = {}
    else:
        members, positional = _parameters(function, name, names)
        said = read_docstring(inspect.getdoc(function)).text
    schema, load = shapes.object(members, name)
    return FunctionTool(
        name,
        said if description is None else description,
        shapes.complete(schema),
        {"type": "json_schema", "strict": strict} if strict else None,
        function=function,
        is_async=inspect.iscoroutinefunction(body),
        load=load,
        positional=positional,
    )


def _without_partial(function: Any) -> Any:
    return cast("partial[Any]", function).func if isinstance(function, partial) else function


def _parameters(function: Any, name: str, names: Mapping[str, Any]) -> tuple[list[Member], dict[str, Any]]:
    """The parameters of a function; and those that go by position only, with their defaults."""
    plain = _without_partial(function)
    annotated = plain.__init__ if isinstance(plain, type) else plain if hasattr(plain, "__code__") else plain.__call__
    hints = hints_of(annotated, names)
    told = read_docstring(inspect.getdoc(plain)).members
    members: list[Member] = []
    positional: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise NoSchema(f"{name}: {parameter} has no schema; name each parameter")
        if parameter.name not in hints:
            raise NoSchema(f"{name}: the parameter {parameter.name} has no annotation; write {parameter.name}: str")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional[parameter.name] = parameter.default
        required = parameter.default is parameter.empty
        members.append(
            Member(
                name=parameter.name,
                annotation=hints[parameter.name],
                required=required,
                default=attrs.NOTHING if required else parameter.default,
                description=told.get(parameter.name, ""),
            )
        )
    return members, positional
