"""The conversation as an API may see it: core sections 9 (X1-X7) and 10 (TM1-TM12), reliability F83."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.history import (
    IMAGE_MOVED,
    KEEP_IDS,
    NO_RESULT,
    TOOL_IMAGE_OMITTED,
    USER_IMAGE_OMITTED,
    IdRule,
    collapse,
    current_system,
    current_tools,
    detach_error_images,
    system_text,
    system_update_text,
    text_of,
    tool_changes,
    transcript,
    transform_messages,
)
from pi_ai.serialization import from_json, to_json
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolReference,
    ToolResultMessage,
    UserMessage,
)
from pi_ai_tests.data import goldens

MODEL = Model(id="m", api="a", provider="p", input=["text", "image"])
BLIND = Model(id="m", api="a", provider="p")
IMAGE = ImageContent("iVBORw0KGgo=", "image/png")
CLAUDE = IdRule(lambda call_id, source: re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:64])


def answer(*content: Any, model: str = "m", stop: Any = "stop", **fields: Any) -> AssistantMessage:
    return AssistantMessage(list(content), api="a", provider="p", model=model, stop_reason=stop, timestamp=2, **fields)


def call(call_id: str, name: str = "t", **fields: Any) -> ToolCall:
    return ToolCall(call_id, name, {"x": 1}, **fields)


def result(call_id: str, text: str = "ok", **fields: Any) -> ToolResultMessage:
    return ToolResultMessage(call_id, "t", text, timestamp=3, **fields)


def user(content: Any = "Hi") -> UserMessage:
    return UserMessage(content, timestamp=1)


def system(content: str, **fields: Any) -> SystemMessage:
    return SystemMessage(content, **{"timestamp": 5, **fields})


def tool(name: str, description: str = "", **parameters: Any) -> Tool:
    return Tool(name, description, {"type": "object", **parameters})


def flow(messages: list[Message]) -> list[str]:
    """A history in short: ``call a``, ``result a``, or the text of what is no call and no result."""
    short: list[str] = []
    for message in messages:
        match message:
            case ToolResultMessage():
                missing = " (none)" if text_of(message.content) == NO_RESULT else ""
                short.append(f"result {message.tool_call_id}{missing}")
            case AssistantMessage():
                short += [f"call {c.id}" for c in message.tool_calls] or [f"answer {message.text}"]
            case _:
                short.append(f"{message.role} {text_of(message.content)}")
    return short


# ── the system prompt and the tools ──────────────────────────────────────────────────────────────────────────


def test_X1_prompt_and_tools_become_a_leading_system_message():
    context = Context([user()], system_prompt="Be brief.", tools=[tool("t")])
    assert transcript(context) == [system("Be brief.", tools_added=[tool("t")], timestamp=0), user()]


@pytest.mark.parametrize(
    ("context", "leading"),
    [
        (Context([user()]), []),
        (Context([user()], system_prompt="", tools=[]), []),
        (Context([user()], system_prompt="Hi"), [system("Hi", timestamp=0)]),
        (Context([user()], tools=[tool("t")]), [system("", tools_added=[tool("t")], timestamp=0)]),
    ],
)
def test_X1_only_what_is_given_is_added(context: Context, leading: list[Message]):
    assert transcript(context) == [*leading, user()]


def test_X2_tools_are_replayed_and_a_redefined_one_keeps_its_place():
    messages = [
        system("", tools_added=[tool("a"), tool("b"), tool("c")]),
        user(),
        system("", tools_removed=[ToolReference("a"), ToolReference("unknown")], tools_added=[tool("b", "new")]),
        system("", tools_removed=[ToolReference("c")], tools_added=[tool("c", "again"), tool("a", "again")]),
    ]
    assert current_tools(messages) == [tool("b", "new"), tool("c", "again"), tool("a", "again")]


def test_X3_the_current_system_message_joins_texts_patches_sections_and_replays_tools():
    messages = [
        user(),
        system("Base.", sections={"a": "A1", "b": "B"}, tools_added=[tool("t")], timestamp=7),
        system("", sections={"a": "A2", "b": None, "c": "C"}),
        SystemMessage([TextContent("More"), TextContent("lines.")], timestamp=9),
    ]
    current = current_system(messages)
    expected = system("Base.\n\nMore\nlines.", sections={"a": "A2", "c": "C"}, tools_added=[tool("t")], timestamp=7)
    assert current == expected
    assert system_text(current) == "Base.\n\nMore\nlines.\n\nA2\n\nC"


def test_X3_without_system_messages_there_is_no_current_one():
    assert current_system([user()]) is None


def test_X3_empty_parts_leave_no_blank_lines():
    assert system_text(system("", sections={"a": "", "b": "B"})) == "B"


def test_X4_collapsing_puts_one_system_message_first():
    messages = [system("One."), user("a"), system("Two."), user("b")]
    assert flow(collapse(messages)) == ["system One.\n\nTwo.", "user a", "user b"]
    assert collapse([user("a")]) == [user("a")]


def test_X5_a_later_system_message_tells_its_updates():
    later = system("New.", sections={"a": "<a/>", "b": None})
    words = 'New.\n\nUpdated system prompt section "a":\n\n<a/>\n\nRemoved system prompt section "b".'
    assert system_update_text(later) == words
    assert system_update_text(system("", tools_removed=[ToolReference("t")])) == ""


def test_X6_tool_changes_are_additions_and_removals():
    before = [tool("same"), tool("changed"), tool("gone")]
    after = [tool("new"), tool("changed", "Now described."), tool("same")]
    added, removed = tool_changes(before, after)
    assert added == [tool("new"), tool("changed", "Now described.")]
    assert removed == [ToolReference("changed"), ToolReference("gone")]
    assert current_tools([system("", tools_added=before), system("", tools_added=added, tools_removed=removed)]) == [
        tool("same"),
        tool("new"),
        tool("changed", "Now described."),
    ]


def test_X6_tools_are_compared_as_json():
    one, true = tool("t", properties={"x": {"const": 1}}), tool("t", properties={"x": {"const": True}})
    assert one == true  # Python's opinion
    assert tool_changes([one], [true]) == ([true], [ToolReference("t")])
    reordered = Tool("t", "", {"properties": {"x": {"const": 1}}, "type": "object"}, constrained_sampling=False)
    assert tool_changes([one], [reordered]) == ([], [])


def test_X7_text_of_content_leaves_images_out():
    assert text_of("as is") == "as is"
    assert text_of([TextContent("a"), IMAGE, TextContent("b")]) == "a\nb"


# ── the table of core section 10 ─────────────────────────────────────────────────────────────────────────────


def test_TM_row_1_another_models_thoughts_are_dropped_and_its_text_kept():
    history = [user(), answer(ThinkingContent("hm", "sig"), TextContent("Hi", "sig"), model="other"), user("b")]
    kept = transform_messages(history, MODEL)
    assert kept == [user(), answer(TextContent("Hi"), model="other"), user("b")]


@pytest.mark.parametrize(
    ("thought", "kept"),
    [
        (ThinkingContent("", "sig"), True),
        (ThinkingContent(" \n", redacted=True), True),
        (ThinkingContent("hm"), True),
        (ThinkingContent(" \n"), False),
        (ThinkingContent("", ""), False),
    ],
)
def test_TM_row_2_and_TM3_own_thoughts_are_kept_if_they_say_or_prove_something(thought: ThinkingContent, kept: bool):
    message = answer(thought, TextContent("Hi"))
    assert transform_messages([message], MODEL) == [message if kept else answer(TextContent("Hi"))]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([answer(call("a")), user()], ["call a", "result a (none)", "user Hi"], id="row 3"),
        pytest.param(
            [answer(call("a"), call("b")), result("b")],
            ["call a", "call b", "result b", "result a (none)"],
            id="row 4",
        ),
        pytest.param(
            [user("1"), answer(call("a"), stop="aborted"), result("a"), user("2")], ["user 1", "user 2"], id="row 5"
        ),
        pytest.param(
            [answer(call("a")), system("S"), result("a")], ["call a", "result a", "system S"], id="row 8, TM9"
        ),
        pytest.param([answer(call("a"))], ["call a", "result a (none)"], id="TM8: the end"),
        pytest.param(
            [answer(call("a")), answer(TextContent("x"), stop="error"), user()],
            ["call a", "result a (none)", "user Hi"],
            id="TM8: an answer that is removed",
        ),
        pytest.param(
            [answer(call("a")), answer(TextContent("x"))],
            ["call a", "result a (none)", "answer x"],
            id="TM8: an answer",
        ),
        pytest.param(
            [answer(call("a")), answer(TextContent("x"), stop="error"), result("a")],
            ["call a", "result a (none)"],
            id="TM10: a result too late",
        ),
        pytest.param([user(), result("a"), user()], ["user Hi", "user Hi"], id="TM10: no call"),
        pytest.param(
            [answer(call("a")), result("a"), result("a", "again"), user()],
            ["call a", "result a", "user Hi"],
            id="TM10: answered twice",
        ),
        pytest.param(
            [answer(call("a"), call("b")), system("S"), user("U"), result("a"), result("b")],
            ["call a", "call b", "result a", "result b", "system S", "user U"],
            id="a real result that comes after the user's next words",
        ),
        pytest.param(
            [answer(call("a"), call("b")), result("a"), user("U")],
            ["call a", "call b", "result a", "result b (none)", "user U"],
            id="one of two, then the user",
        ),
        pytest.param([user(), system("S"), user()], ["user Hi", "system S", "user Hi"], id="nothing pending"),
    ],
)
def test_TM7_to_TM10_every_call_is_answered_once_and_directly(history: list[Message], expected: list[str]):
    assert flow(transform_messages(history, MODEL)) == expected


def test_TM8_a_made_up_result_is_an_error_with_the_calls_id_and_name():
    _, made_up = transform_messages([answer(call("a", "get_time"))], MODEL)
    assert isinstance(made_up, ToolResultMessage)
    assert (made_up.tool_call_id, made_up.tool_name, made_up.is_error) == ("a", "get_time", True)
    assert made_up.content == [TextContent("No result provided")]
    assert made_up.timestamp > 1_700_000_000_000


def test_TM_row_6_a_long_foreign_id_is_normalised_with_its_result():
    long_id = "call_1|fc_" + "Zx9+/=" * 75
    history = [answer(call(long_id), model="other"), result(long_id)]
    assistant, answered = transform_messages(history, MODEL, CLAUDE)
    assert isinstance(assistant, AssistantMessage)
    assert isinstance(answered, ToolResultMessage)
    new_id = assistant.tool_calls[0].id
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", new_id)
    assert answered.tool_call_id == new_id


IMAGES = [TextContent("Look:"), IMAGE, IMAGE, TextContent("between"), IMAGE]


def test_TM_row_7_runs_of_images_become_one_placeholder_each():
    placeholder = TextContent("(image omitted: model does not support images)")
    shown = transform_messages([user(IMAGES)], BLIND)
    assert shown == [user([TextContent("Look:"), placeholder, TextContent("between"), placeholder])]


def test_TM2_images_in_tool_results_become_placeholders():
    history = [answer(call("a")), ToolResultMessage("a", "t", [IMAGE, IMAGE], details={"d": 1}, timestamp=3)]
    placeholder = TextContent("(tool image omitted: model does not support images)")
    expected = ToolResultMessage("a", "t", [placeholder], details={"d": 1}, timestamp=3)
    assert transform_messages(history, BLIND)[1] == expected


def test_TM2_an_image_right_after_an_equal_placeholder_adds_none():
    said = [TextContent(USER_IMAGE_OMITTED), IMAGE, TextContent(USER_IMAGE_OMITTED)]
    assert transform_messages([user(said)], BLIND) == [user([said[0], said[2]])]


def test_TM2_a_model_that_sees_images_gets_them():
    history = [user(IMAGES), answer(call("a")), ToolResultMessage("a", "t", [IMAGE])]
    assert all(new is old for new, old in zip(transform_messages(history, MODEL), history, strict=True))


@pytest.mark.parametrize("changed", ["provider", "api", "model"])
def test_TM4_and_TM5_signatures_go_to_nobody_but_the_model_that_made_them(changed: str):
    message = answer(TextContent("Hi", "t-sig"), call("a", thought_signature="c-sig"), response_model="x")
    assert transform_messages([message], MODEL)[0] is message
    setattr(message, changed, "other")
    stripped = transform_messages([message], MODEL)[0]
    assert isinstance(stripped, AssistantMessage)
    assert stripped.content == [TextContent("Hi"), call("a")]
    assert getattr(stripped, changed) == "other"


def test_TM5_a_models_own_ids_are_not_normalised():
    message = answer(call("id with spaces"))
    assert transform_messages([message, result("id with spaces")], MODEL, CLAUDE)[0] is message


def test_TM6_ids_that_become_equal_are_told_apart_and_results_follow():
    history = [
        answer(call("a b"), call("a/b"), call("a_b"), model="o"),
        result("a_b", "3"),
        result("a/b", "2"),
        result("a b", "1"),
    ]
    assistant, *results = transform_messages(history, MODEL, CLAUDE)
    assert isinstance(assistant, AssistantMessage)
    first, second, third = (c.id for c in assistant.tool_calls)
    assert first == "a_b"
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", second)
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", third)
    assert len({first, second, third}) == 3
    assert [(r.tool_call_id, text_of(r.content)) for r in results if isinstance(r, ToolResultMessage)] == [
        (third, "3"),
        (second, "2"),
        (first, "1"),
    ]


def test_TM6_the_tail_keeps_within_the_length_and_the_alphabet_of_the_api():
    mistral = IdRule(lambda call_id, source: re.sub(r"[^A-Za-z0-9]", "", call_id)[:9], max_length=9, joint="")
    history = [answer(*(call(f"abcdefghij{n}") for n in range(20)), model="o")]
    assistant = transform_messages(history, MODEL, mistral)[0]
    assert isinstance(assistant, AssistantMessage)
    ids = {c.id for c in assistant.tool_calls}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9]{9}", call_id) for call_id in ids)


def test_TM6_renaming_holds_for_the_turn_that_it_was_made_for():
    history = [answer(call("a b"), model="o"), result("a b"), answer(call("a b")), result("a b")]
    assert flow(transform_messages(history, MODEL, CLAUDE)) == ["call a_b", "result a_b", "call a b", "result a b"]


def test_F83_other_models_ids_that_come_again_in_a_later_turn_are_told_apart():
    history = [answer(call("call_0"), model="o"), result("call_0"), answer(call("call_0"), model="o"), result("call_0")]
    first, _, second, answered = transform_messages(history, MODEL, CLAUDE)
    assert isinstance(first, AssistantMessage)
    assert isinstance(second, AssistantMessage)
    assert isinstance(answered, ToolResultMessage)
    assert first.tool_calls[0].id == "call_0"
    assert second.tool_calls[0].id == answered.tool_call_id != "call_0"


def test_F83_a_models_own_ids_that_come_again_in_a_later_turn_are_its_own_affair():
    history = [answer(call("call_0")), result("call_0"), answer(call("call_0")), result("call_0")]
    assert transform_messages(history, MODEL, CLAUDE) == history


def test_F81_equal_and_empty_ids_within_a_turn_are_made_distinct_and_results_go_in_order():
    history = [answer(call(""), call("same"), call("same")), result("same", "1"), result("same", "2"), result("", "3")]
    assistant, *results = transform_messages(history, MODEL)
    assert isinstance(assistant, AssistantMessage)
    empty, one, two = (c.id for c in assistant.tool_calls)
    assert empty
    assert one == "same"
    assert two.startswith("same_")
    assert [(r.tool_call_id, text_of(r.content)) for r in results if isinstance(r, ToolResultMessage)] == [
        (one, "1"),
        (two, "2"),
        (empty, "3"),
    ]
    assert transform_messages(history, MODEL)[0] == assistant, "the same history always gives the same ids"


def test_normalize_is_told_the_message_that_the_id_comes_from():
    seen: list[tuple[str, str]] = []

    def normalize(call_id: str, source: AssistantMessage) -> str:
        seen.append((call_id, source.model))
        return call_id

    transform_messages([answer(call("a"), model="o"), answer(call("b"))], MODEL, IdRule(normalize))
    assert seen == [("a", "o")]


@pytest.mark.parametrize("stop", ["error", "aborted", "pending", "deferred"])
def test_TM7_and_TM11_unfinished_answers_are_left_out(stop: str):
    assert transform_messages([user(), answer(TextContent("Par"), stop=stop)], MODEL) == [user()]


def test_TM11_an_answer_written_by_hand_is_finished():
    example = AssistantMessage([TextContent("Paris.")])
    assert example.stop_reason == "pending"
    assert transform_messages([user(), example], MODEL) == [user(), example]
    assert transform_messages([user(), AssistantMessage()], MODEL) == [user()]
    failed = AssistantMessage([TextContent("Par")], stop_reason="error")
    assert transform_messages([user(), failed], MODEL) == [user()]


def test_a_call_that_was_cut_off_stays_marked():
    broken = call("a", arguments_error="cut off")
    message = answer(broken, model="o", stop="length")
    assert transform_messages([message, result("a")], MODEL)[0] == message


@pytest.mark.parametrize("is_error", [True, False])
def test_TM12_images_of_an_error_result_follow_the_results(is_error: bool):
    message = ToolResultMessage("a", "draw", [TextContent("Failed"), IMAGE, IMAGE], is_error=is_error)
    content, attached = detach_error_images(message)
    if not is_error:
        assert content is message.content
        assert attached == []
        return
    assert content == [TextContent("Failed"), TextContent("(image attached after the tool results)")]
    assert attached == [TextContent("Images from the error result of tool call a (draw):"), IMAGE, IMAGE]


def test_TM12_nothing_is_detached_where_there_is_no_image():
    message = ToolResultMessage("a", "draw", "Failed", is_error=True)
    assert detach_error_images(message) == (message.content, [])


def test_content_that_need_not_change_is_shared_not_copied():
    picture = UserMessage([TextContent("Look"), IMAGE])
    signed = answer(TextContent("Hi", "sig"), call("a", thought_signature="sig"), model="o")
    history = [picture, signed, result("a")]
    kept = transform_messages(history, MODEL)
    assert kept[0] is picture
    assert kept[2] is history[2]
    assert isinstance(kept[1], AssistantMessage)
    assert kept[1].tool_calls[0].arguments is signed.tool_calls[0].arguments


# ── what pi does ─────────────────────────────────────────────────────────────────────────────────────────────

HISTORIES = ("request/handoff", "request/history", "request/images", "request/midconvo", "request/empty")
WITH_CALL_IDS = {"openai-completions": KEEP_IDS, "anthropic-messages": CLAUDE, "bedrock-converse-stream": CLAUDE}
OWN_NORMALISER = {"handoff-long-tool-id", "handoff-responses-ids", "handoff-shared-call-id", "long-id-openai"}
DIFFERENT = {
    "aborted-with-call-and-result": "TM10: the result of a call that is left out is left out",
    "result-without-call": "TM10",
    "handoff-odd-tool-ids": "F81: no empty ids",
}


def _calls_and_results(sent: Any) -> list[str]:
    """The ids of calls and results, in the order of a request's body."""
    found: list[str] = []
    if isinstance(sent, list):
        return [item for part in sent for item in _calls_and_results(part)]
    if not isinstance(sent, dict):
        return []
    for key, kind in (("tool_call_id", "result"), ("tool_use_id", "result")):
        if key in sent:
            found.append(f"{kind} {sent[key]}")
    if "toolUseId" in sent:
        found.append(f"{'call' if 'name' in sent else 'result'} {sent['toolUseId']}")
    if sent.get("type") in ("function", "tool_use") and "id" in sent:
        found.append(f"call {sent['id']}")
    return found + [item for part in sent.values() for item in _calls_and_results(part)]


@pytest.mark.parametrize(
    ("api", "case"),
    [
        pytest.param(api, case, id=f"{api}-{case['name']}")
        for api in WITH_CALL_IDS
        for case in goldens(api)
        if case["category"] in HISTORIES and not (api == "openai-completions" and case["name"] in OWN_NORMALISER)
    ],
)
def test_calls_and_results_go_out_in_the_order_of_the_goldens(api: str, case: dict[str, Any]):
    model, context = from_json(Model, case["model"]), from_json(Context, case["context"])
    before = to_json(context)
    messages = transform_messages(collapse(transcript(context)), model, WITH_CALL_IDS[api])
    ours = [step for step in flow(messages) if step.startswith(("call ", "result "))]
    theirs = _calls_and_results(case["expected"]["requests"][0]["body"]["messages"])
    ours = [step.removesuffix(" (none)") for step in ours]
    assert (ours == theirs) is (case["name"] not in DIFFERENT), DIFFERENT.get(case["name"])
    assert to_json(context) == before


# ── any history ──────────────────────────────────────────────────────────────────────────────────────────────

IDS = st.sampled_from(["a", "b", "a b", "a/b", "", "x" * 70, "x" * 69 + "y", "\ud83d"])
TEXTS = st.sampled_from(["", " ", "text"])
SIGNATURES = st.none() | st.sampled_from(["", "sig"])
BLOCKS = st.one_of(
    st.builds(TextContent, TEXTS, SIGNATURES),
    st.builds(ThinkingContent, TEXTS, SIGNATURES, st.none() | st.just(True)),
    st.builds(ToolCall, IDS, st.just("t"), st.just({"x": 1}), SIGNATURES),
)
USER_CONTENT = st.lists(st.builds(TextContent, TEXTS | st.just(TOOL_IMAGE_OMITTED)) | st.just(IMAGE), max_size=4)
STOPS = st.sampled_from(["stop", "toolUse", "length", "error", "aborted", "pending", "deferred"])


def _answers(models: st.SearchStrategy[str]) -> st.SearchStrategy[AssistantMessage]:
    return st.builds(
        AssistantMessage,
        st.lists(BLOCKS, max_size=4),
        api=st.just("a"),
        provider=st.just("p"),
        model=models,
        stop_reason=STOPS,
        timestamp=st.just(2),
    )


def _histories(models: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    message = st.one_of(
        _answers(models),
        st.builds(ToolResultMessage, IDS, st.just("t"), USER_CONTENT, timestamp=st.just(3)),
        st.builds(UserMessage, st.just("Hi") | USER_CONTENT, timestamp=st.just(1)),
        st.builds(SystemMessage, TEXTS, timestamp=st.just(5)),
    )
    return st.lists(message, max_size=12)


@settings(deadline=None, max_examples=300)
@given(_histories(st.sampled_from(["m", "other"])), st.sampled_from([MODEL, BLIND]))
def test_any_history_becomes_one_that_an_api_takes(history: list[Message], model: Model):
    before = [to_json(message) for message in history]
    messages = transform_messages(history, model, CLAUDE)

    assert [to_json(message) for message in history] == before, "the input is untouched"
    pending: list[str] = []
    for message in messages:
        if isinstance(message, ToolResultMessage):
            assert message.tool_call_id in pending, "a result answers an open call"
            pending.remove(message.tool_call_id)
            continue
        assert not pending, "nothing stands between a call and its result"
        if isinstance(message, AssistantMessage):
            assert message.stop_reason in ("stop", "toolUse", "length")
            pending = [block.id for block in message.tool_calls]
            assert all(pending), "no id is empty"
            assert len(set(pending)) == len(pending), "ids differ within a turn"
            if message.model != "m":
                assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call_id) for call_id in pending)
                assert not any(isinstance(block, ThinkingContent) for block in message.content)
    assert not pending, "every call is answered"
    if model is BLIND:
        assert not any(isinstance(message.content, list) and IMAGE in message.content for message in messages)

    finished = [
        m for m in history if not isinstance(m, AssistantMessage) or m.stop_reason in ("stop", "toolUse", "length")
    ]
    for kind in (UserMessage, SystemMessage, AssistantMessage):
        assert sum(isinstance(m, kind) for m in messages) == sum(isinstance(m, kind) for m in finished), (
            "nobody is lost"
        )


@settings(deadline=None, max_examples=200)
@given(_histories(st.just("m")))
def test_a_history_that_was_transformed_for_its_model_stays_as_it_is(history: list[Message]):
    once = transform_messages(history, MODEL)
    twice = transform_messages(once, MODEL)
    assert all(new is old for new, old in zip(twice, once, strict=True))


@settings(deadline=None, max_examples=100)
@given(_histories(st.sampled_from(["m", "other"])))
def test_what_was_sent_stays_the_same_when_the_conversation_goes_on(history: list[Message]):
    """A prefix of a history gives a prefix of the request (as far as its calls are answered), so that caches hold."""
    settled = transform_messages([*history, answer(TextContent("end"))], MODEL, CLAUDE)
    longer = transform_messages([*history, answer(TextContent("end")), user(), answer(call("a"))], MODEL, CLAUDE)
    assert [to_json({**to_json(m), "timestamp": 0}) for m in longer[: len(settled)]] == [
        to_json({**to_json(m), "timestamp": 0}) for m in settled
    ]


def test_the_placeholder_texts_are_those_of_pi():
    assert (TOOL_IMAGE_OMITTED, IMAGE_MOVED) == (
        "(tool image omitted: model does not support images)",
        "(image attached after the tool results)",
    )
