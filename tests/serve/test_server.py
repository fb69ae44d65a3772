"""Laws of the running server: the same text by every interface, an end for every request, and errors that are JSON."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from localspec.engine import Engine
from localspec.serve.access import Access
from localspec.serve.dialects.job import Ask
from localspec.testing import ScriptedVocabulary, scripted_engine
from tests.helpers.callers import LOGITS, Caller, Gate, N, until
from tests.helpers.server import HELLO, Answer, Running, engine_of, replying, serving

REPLY = "Once upon a time there was a café. The end."
ANTHROPIC = {"messages": HELLO, "max_tokens": 100, "temperature": 0}
RESPONSES = {"input": "Hello", "temperature": 0}
TOOL = {"name": "weather", "description": "Today's.", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(engine_of(replying(REPLY))) as running:
        yield running


def text_of(answer: Answer) -> str:
    """The text of an answer in any interface, streamed or not."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return "".join(_streamed(data) for _, data in answer.events if data != "[DONE]")
    body = answer.json()
    if "choices" in body:
        choice = body["choices"][0]
        return choice["text"] if "text" in choice else choice["message"]["content"]
    parts = body.get("content") or body["output"][0]["content"]
    return parts[0]["text"]


def _streamed(data: Any) -> str:
    if "choices" in data:
        return "".join(one.get("text") or one.get("delta", {}).get("content") or "" for one in data["choices"])
    delta = data.get("delta", "")
    return delta if isinstance(delta, str) else delta.get("text", "")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "temperature": 0}),
        ("/chat/completions", {"messages": HELLO, "temperature": 0}),
        ("/v1/completions", {"prompt": "<assistant>", "temperature": 0}),
        ("/v1/responses", RESPONSES),
        ("/v1/messages", ANTHROPIC),
    ],
)
def test_every_interface_says_the_same(server: Running, path: str, body: Any, stream: bool) -> None:
    """With drafting and without, streamed and whole; characters are not cut."""
    for more in ({}, {"speculative": False}, {"draft_max": 1}):
        answer = server.ask(path, {**body, **more, "stream": stream})
        assert answer.status == 200
        assert text_of(answer) == REPLY


def test_drafting_is_counted_and_can_be_switched_off(server: Running) -> None:
    """In the timings of an answer and in the metrics."""
    on, off = server.chat().json()["timings"], server.chat(speculative=False).json()["timings"]
    assert on["draft_n"] >= on["draft_n_accepted"] > 0 == off["draft_n"]
    assert on["passes"] < off["passes"]
    text = server.ask("/metrics").body.decode()
    assert 'localspec:spec_decode_num_accepted_tokens_total{drafter="scripted"}' in text
    assert 'per_pos_total{position="0"}' in text


def test_stop_strings_never_leak(server: Running) -> None:
    """Also where they are split over chunks; Anthropic's interface names the one that was met."""
    for stream in (False, True):
        answer = server.chat(stop=["there was"], stream=stream)
        assert text_of(answer) == "Once upon a time "
    body = server.ask("/v1/messages", {**ANTHROPIC, "stop_sequences": ["xyz", "upon"]}).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "upon")


def test_an_answer_that_was_begun_is_continued(server: Running) -> None:
    """What was given is not repeated; a field that asks for it needs a message of the assistant."""
    begun = [*HELLO, {"role": "assistant", "content": REPLY[:9]}]
    assert text_of(server.chat(begun)) == REPLY[9:]
    assert text_of(server.ask("/v1/messages", {**ANTHROPIC, "messages": begun})) == REPLY[9:]
    assert server.chat(begun, continue_final_message=False).status == 400
    assert server.chat(continue_final_message=True).status == 400
    assert server.chat(begun, continue_final_message=True, add_generation_prompt=True).status == 400


def test_the_usage_chunk_is_sent_when_asked_for(server: Running) -> None:
    """And never otherwise; every choice has ended before it."""
    plain = server.chat(stream=True).events
    assert all(data["choices"] for _, data in plain[:-1])
    asked = server.chat(stream=True, stream_options={"include_usage": True}).events
    assert asked[-1][1] == "[DONE]"
    assert asked[-2][1]["choices"] == []
    assert asked[-2][1]["usage"]["completion_tokens"] == len(REPLY.encode())


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_count(server: Running, field: str) -> None:
    """An answer that is cut says so."""
    choice = server.chat(**{field: 4}).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Once", "length")


def test_log_probabilities_are_those_of_every_token(server: Running) -> None:
    """With drafting on, streamed and whole; bytes of a character are apart."""
    whole = server.chat(logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    events = server.chat(logprobs=True, top_logprobs=2, stream=True).events[:-1]
    streamed = [one for _, data in events for one in (data["choices"][0]["logprobs"] or {}).get("content", [])]
    assert streamed == whole
    assert bytes(byte for one in whole for byte in one["bytes"]) == REPLY.encode()
    assert all(len(one["top_logprobs"]) == 2 for one in whole)


def test_several_answers_have_seeds_of_their_own(server: Running) -> None:
    """And an index each."""
    body = server.chat(n=3, seed=5).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [job.completion.seed for job in server.jobs[-1][0].done] == [5, 6, 7]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": HELLO, "temperature": -1}, "temperature"),
        ("/v1/chat/completions", {"messages": HELLO, "top_k": "many"}, "top_k"),
        ("/v1/chat/completions", {"messages": HELLO, "functions": [{}]}, "functions"),
        ("/v1/chat/completions", {"messages": HELLO, "logit_bias": {"x": 1}}, "logit_bias"),
        ("/v1/chat/completions", {"messages": HELLO, "response_format": {"type": "xml"}}, "response_format.type"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/x"}}]}]},
            "messages[0].content[0]",
        ),
        ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        ("/v1/completions", {"prompt": [120], "suffix": "y"}, "suffix"),
        ("/v1/completions", {"prompt": [120, "x"]}, "prompt"),
        ("/completion", {"prompt": "x", "ignore_eos": True}, "ignore_eos"),
        ("/v1/responses", {"input": "x", "background": True}, "background"),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ],
)
def test_a_wrong_field_is_named(server: Running, path: str, body: Any, field: str) -> None:
    """In the original's shape of an error, before a stream begins."""
    for stream in (False, True):
        answer = server.ask(path, {**body, "stream": stream})
        assert answer.status == 400
        assert answer.json()["error"]["param"] == field
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_errors_of_messages_have_anthropics_shape(server: Running) -> None:
    """Clients read the type inside."""
    answer = server.ask("/v1/messages", {"messages": HELLO})
    assert answer.status == 400
    assert answer.json()["type"] == "error"
    assert "max_tokens" in answer.json()["error"]["message"]


def test_unknown_fields_are_ignored(server: Running) -> None:
    """As the originals do."""
    assert server.chat(new_field={"x": 1}, store=True, service_tier="auto").status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"messages": "\\ud800"}', b"null"])
def test_garbage_is_a_bad_request(server: Running, body: bytes) -> None:
    """Of any kind."""
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/tokenize"):
        assert server.ask(path, body).status == 400


def test_unknown_paths_and_methods_are_json(server: Running) -> None:
    """With the paths that there are."""
    assert server.ask("/v1/nothing").status == 404
    assert "chat/completions" in server.ask("/v1/nothing").json()["error"]["message"]
    assert server.ask("/v1/chat/completions").status == 405
    assert server.ask("/v1/embeddings", {"input": "x"}).status == 501


def test_helpers_agree_with_the_engine(server: Running) -> None:
    """Tokens and back, the template's text, and the count of a prompt."""
    tokens = server.ask("/tokenize", {"content": "café"}).json()["tokens"]
    assert server.ask("/detokenize", {"tokens": tokens}).json()["content"] == "café"
    pieces = server.ask("/tokenize", {"content": "é", "with_pieces": True}).json()["tokens"]
    assert [one["piece"] for one in pieces] == [[0xC3], [0xA9]]
    prompt = server.ask("/apply-template", {"messages": HELLO}).json()["prompt"]
    assert prompt == "<user>Hello</><assistant>"
    for path in ("messages/count_tokens", "chat/completions/input_tokens", "responses/input_tokens"):
        count = server.ask(f"/v1/{path}", {"messages": HELLO, "input": "Hello"}).json()
        assert count == {"input_tokens": len(prompt)}
    assert server.ask("/health").json() == {"status": "ok"}
    assert server.ask("/props").json()["n_ctx"] == 4096


def test_models_are_listed_and_found(server: Running) -> None:
    """Without any path of this machine."""
    listed = server.ask("/v1/models")
    assert [model["id"] for model in listed.json()["data"]] == ["scripted"]
    assert server.ask("/v1/models/scripted").json() == listed.json()["data"][0]
    missing = server.chat(model="/etc/passwd")
    assert missing.status == 404
    assert missing.json()["error"]["param"] == "model"
    for answer in (listed, server.ask("/props"), server.chat(max_tokens=1)):
        assert b"secret" not in answer.body


def test_a_response_continues_an_earlier_one(server: Running) -> None:
    """By its id, until it is deleted; instructions hold for one response."""
    first = server.ask("/v1/responses", {**RESPONSES, "instructions": "Be brief."}).json()
    again = {"input": "More", "previous_response_id": first["id"], "temperature": 0}
    second = server.ask("/v1/responses", again).json()
    messages = server.jobs[-1][0].ask.prompts[0]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]  # type: ignore[index]
    assert messages[1]["content"] == REPLY  # type: ignore[index]
    assert second["previous_response_id"] == first["id"]
    assert server.ask(f"/v1/responses/{first['id']}").json()["output"] == first["output"]
    assert server.ask(f"/v1/responses/{first['id']}", method="DELETE").status == 200
    missing = server.ask("/v1/responses", again)
    assert (missing.status, missing.json()["error"]["param"]) == (404, "previous_response_id")
    unstored = server.ask("/v1/responses", {**RESPONSES, "store": False}).json()
    assert server.ask(f"/v1/responses/{unstored['id']}").status == 404


def test_tools_go_round() -> None:
    """A call, its result and an answer, in each interface; deltas of a stream have an index, and one id and name."""
    with serving(engine_of(replying(CALL))) as server:
        tools = [{"type": "function", "function": TOOL}]
        message = server.chat(tools=tools).json()["choices"][0]
        assert (message["finish_reason"], message["message"]["content"]) == ("tool_calls", None)
        call = message["message"]["tool_calls"][0]
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
        deltas = [data["choices"][0]["delta"] for _, data in server.chat(tools=tools, stream=True).events[:-1]]
        parts = [part for d in deltas for part in d.get("tool_calls", ())]
        assert parts[0] == {"index": 0, **call, "function": {"name": "weather", "arguments": ""}}
        assert all(part.keys() == {"index", "function"} and part["index"] == 0 for part in parts[1:])
        assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]
        assert len(parts) > 3  # while it is written
        result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
        assert server.chat([*HELLO, message["message"], result], tools=tools).status == 200

        flat = [{"type": "function", **TOOL}, {"type": "web_search"}]
        item = server.ask("/v1/responses", {**RESPONSES, "tools": flat}).json()["output"][0]
        assert (item["type"], item["name"]) == ("function_call", "weather")
        output = {"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"}
        assert server.ask("/v1/responses", {**RESPONSES, "input": [item, output], "tools": flat}).status == 200

        own = [{"name": "weather", "input_schema": TOOL["parameters"]}]
        body = server.ask("/v1/messages", {**ANTHROPIC, "tools": own}).json()
        assert body["stop_reason"] == "tool_use"
        assert body["content"][0]["input"] == {"city": "Rome"}
        block = {"type": "tool_result", "tool_use_id": body["content"][0]["id"], "content": "sunny"}
        more = [*HELLO, {"role": "assistant", "content": body["content"]}, {"role": "user", "content": [block]}]
        assert server.ask("/v1/messages", {**ANTHROPIC, "messages": more, "tools": own}).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_work(stream: bool) -> None:
    """Within one pass, also without a stream; the next request is answered."""
    gate = Gate(30)
    with serving(engine_of(gate, drafts=False)) as server:
        body = {"messages": HELLO, "temperature": 0, "max_tokens": 3000, "stream": stream}
        connection = server.send("/v1/chat/completions", body)
        assert gate.reached.wait(30)
        connection.sock.close()
        until(lambda: len(server.jobs) == 1)
        gate.open()
        assert server.chat(max_tokens=2).status == 200
        assert server.jobs[0][1].status == 499
        target: Any = server.service.scheduler.engines.loaded(server.service.scheduler.engines.catalog.default)
        assert sum(target._pair.target.decoded) < 100


def test_a_request_that_is_left_at_once_keeps_no_place() -> None:
    """Its work ends before it begins."""

    async def run() -> None:
        scheduler = server.service.scheduler
        for _ in range(3):
            (await scheduler.submit(Ask((HELLO,), {"seed": 1, "max_tokens": 1}), "client")).cancel()
        job = await scheduler.submit(Ask((HELLO,), {"seed": 1, "max_tokens": 1}), "client")
        while await job.events.get() is not None:
            pass
        assert scheduler.turns.running == scheduler.turns.waiting == 0

    with serving(engine_of(replying("x"))) as server:
        asyncio.run(asyncio.wait_for(run(), 30))
        assert [problem and problem.status for _, problem in server.jobs] == [499, 499, 499, None]


def test_a_full_queue_refuses() -> None:
    """With the seconds to wait; those that wait are answered."""
    gate = Gate()
    with serving(engine_of(gate, drafts=False), queue=1) as server:
        body = {"messages": HELLO, "temperature": 0, "max_tokens": 2}
        first = server.send("/v1/chat/completions", body)
        assert gate.reached.wait(30)
        second = server.send("/v1/chat/completions", body)
        until(lambda: server.service.scheduler.turns.waiting == 1)
        refused = server.chat(max_tokens=2)
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        gate.open()
        assert first.getresponse().status == second.getresponse().status == 200


def test_headers_leave_at_once_and_silence_is_broken() -> None:
    """Before the prefill; while nothing else is sent there are pings."""
    gate = Gate()
    with serving(engine_of(gate, drafts=False), ping_s=0.02) as server:
        connection = server.send("/v1/messages", {**ANTHROPIC, "max_tokens": 2, "stream": True})
        response = connection.getresponse()
        assert response.status == 200
        seen = b""
        while b"event: ping" not in seen:
            seen += response.readline()
        assert b"event: message_start" in seen
        assert b": prefill 0/" in seen
        gate.open()
        assert b"message_stop" in response.read()


def test_the_end_finishes_answers_and_refuses_new_ones() -> None:
    """A running stream is complete; one that waits is refused in its stream."""
    gate = Gate()
    with serving(engine_of(gate, drafts=False)) as server:
        body = {"messages": HELLO, "temperature": 0, "max_tokens": 2, "stream": True}
        first = server.send("/v1/chat/completions", body)
        assert gate.reached.wait(30)
        second = server.send("/v1/chat/completions", body)
        until(lambda: server.service.scheduler.turns.waiting == 1)
        server.server.should_exit = True
        assert b"stopping" in second.getresponse().read()
        gate.open()
        assert first.getresponse().read().endswith(b"data: [DONE]\n\n")


def test_the_end_stops_what_takes_too_long() -> None:
    """After the time of grace, with an error that says so."""
    with serving(engine_of(replying("x" * 3000), drafts=False), grace=0.1) as server:
        slow = Gate(1)
        target: Any = server.service.scheduler.engines.loaded(server.service.scheduler.engines.catalog.default)
        target._pair.target._logits = slow
        connection = server.send("/v1/chat/completions", {"messages": HELLO, "temperature": 0})
        assert slow.reached.wait(30)
        server.server.should_exit = True
        threading.Timer(0.4, slow.open).start()
        assert connection.getresponse().status == 503


def test_bodies_have_limits() -> None:
    """Of length, announced or not, and of time."""
    with serving(engine_of(replying("x")), Access(max_body=1000, body_s=0.1)) as server:
        assert server.ask("/v1/chat/completions", b"x" * 2000).status == 413
        connection = server.connect()
        connection.request("POST", "/v1/chat/completions", iter([b"x" * 600] * 3), encode_chunked=True)
        assert connection.getresponse().status == 413
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_garbage_on_the_wire_harms_nobody(server: Running) -> None:
    """Bytes that are no HTTP, and connections that end at any place."""
    whole = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{"
    for data in (b"\x00\xff" * 50, b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", whole[:30], whole):
        with socket.create_connection(("127.0.0.1", server.port)) as wire:
            wire.sendall(data)
    assert server.chat(max_tokens=1).status == 200


def test_slow_headers_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds; a connection that asked before has the same time for its next request."""
    monkeypatch.setattr("localspec.serve.run._HEADERS_S", 0.05)
    with serving(engine_of(replying("x"))) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(10)
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while b"ok" not in seen:
            seen += slow.recv(4096)
        slow.sendall(b"GET /hea")
        try:
            end = slow.recv(10)
        except ConnectionResetError:
            end = b""
        assert end == b""


def test_other_models_are_loaded_when_asked_for() -> None:
    """A load that fails is an error of one request, without a path in it."""

    def broken() -> Any:
        from localspec.errors import ModelFileError

        raise ModelFileError("/home/user/models/broken.gguf is damaged; pull it again.")

    others = {"other": lambda: engine_of(replying("other")), "broken": broken}
    with serving(engine_of(replying("first")), others=others) as server:
        assert text_of(server.chat(model="other")) == "other"
        assert server.chat(model="OTHER").json()["model"] == "other"
        failed = server.chat(model="broken")
        assert failed.status == 500
        assert failed.json()["error"]["message"] == "broken.gguf is damaged; pull it again."
        events = server.chat(model="broken", stream=True).events
        assert "damaged" in events[0][1]["error"]["message"]
        assert text_of(server.chat(model="other")) == "other"


def test_several_requests_at_the_same_time() -> None:
    """Each with the answer that it has alone; a client that leaves frees its place."""

    def engine(parallel: int) -> Engine:
        return scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N), parallel=parallel)

    asks = [{"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12} for text in "abcdef"]
    with serving(engine(1)) as running:
        expected = [running.ask("/v1/chat/completions", ask).json()["choices"][0] for ask in asks]
    with serving(engine(3), parallel=3) as running:
        long = {**asks[0], "max_tokens": 3000, "stream": True}
        leaving = [running.send("/v1/chat/completions", long) for _ in range(2)]
        callers = [Caller(lambda ask=ask: running.ask("/v1/chat/completions", ask)) for ask in asks]  # type: ignore[misc]
        found = [caller.result().json()["choices"][0] for caller in callers]
        for connection in leaving:
            connection.close()
        until(lambda: running.service.scheduler.turns.running == 0)
    assert found == expected


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_answers_of_one_request_run_at_the_same_time(parallel: int) -> None:
    """As far as nobody waits; they are those of one after the other, in their order."""
    body = {"prompt": ["a", "b"], "n": 2, "max_tokens": 12, "seed": 5, "logprobs": 2}
    engine = scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N), parallel=parallel)
    with serving(engine, parallel=parallel) as running:
        turns, most = running.service.scheduler.turns, 0
        whole = running.ask("/v1/completions", body).json()
        stream = running.send("/v1/completions", {**body, "stream": True}).getresponse()
        texts = dict.fromkeys(range(4), "")
        for line in stream:
            most = max(most, turns.running)
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    texts[choice["index"]] += choice["text"]
        until(lambda: turns.running == 0)
    with serving(scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N))) as running:
        alone = [
            running.ask("/v1/completions", {**body, "prompt": prompt, "n": 1, "seed": 5 + index}).json()["choices"][0]
            for index, prompt in enumerate("aabb")
        ]
    assert [{**one, "index": 0} for one in whole["choices"]] == alone
    assert list(texts.values()) == [one["text"] for one in alone]
    assert most <= parallel
