"""OpenAI's own ChatKit server, whose answers follow a script.

It listens on a free port of the loopback interface, which it prints as a line of
JSON, and ends on SIGTERM. POST /chat takes ChatKit's requests. The Authorization
header names the visitor: each has conversations of their own.

A question that begins with "script: " goes on with a JSON array of scripts: one for
each time that the question is answered, the last one for all later times. A script
is an array of acts, each an object with one key. script_test.go describes them. A
question that has "stream: " in it is answered by a model, through the Agents SDK, at
OPENAI_BASE_URL with OPENAI_API_KEY. Any other question is answered with its own words.
"""

import asyncio
import http.client
import io
import json
import signal
import sys
from datetime import datetime

from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner
from agents.stream_events import RawResponsesStreamEvent
from chatkit.agents import AgentContext, simple_to_agent_input, stream_agent_response
from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.store import NotFoundError, Store
from chatkit.types import ClosedStatus, NoticeEvent, Page, ProgressUpdateEvent, ThreadMetadata
from openai import AsyncOpenAI
from openai.types import Reasoning, responses
from openai.types.responses.response_output_text import AnnotationURLCitation

SCRIPT = "script: "
STREAM = "stream: "
SEARCHING = {"progress": {"icon": "search", "text": "Searching the docs…"}}
TEXT = {"write", "cite"}
ASIDE = {"progress", "notice", "close"}
TITLE = 60  # Docent's longest title.


class Conversation:
    def __init__(self):
        self.thread = None
        self.updated = None
        self.items = []


class Memory(Store):
    """Keeps all conversations. The context of a call is the visitor."""

    def __init__(self):
        self.visitors = {}

    def find(self, thread_id, visitor):
        try:
            return self.visitors[visitor][thread_id]
        except KeyError:
            raise NotFoundError(thread_id) from None

    def touch(self, thread_id, visitor):
        found = self.find(thread_id, visitor)
        found.updated = datetime.now()
        return found

    async def load_thread(self, thread_id, context):
        return self.find(thread_id, context).thread.model_copy(deep=True)

    async def save_thread(self, thread, context):
        mine = self.visitors.setdefault(context, {})
        # What the server passes may be a Thread with items, which it could not load.
        kept = ThreadMetadata(**thread.model_dump(exclude={"items"}))
        mine.setdefault(thread.id, Conversation()).thread = kept
        if mine[thread.id].updated is None:  # Else only what is said makes it newer.
            self.touch(thread.id, context)

    async def load_threads(self, limit, after, order, context):
        mine = self.visitors.get(context, {}).values()
        rows = [c.thread for c in sorted(mine, key=lambda c: c.updated)]
        return page(rows, limit, after, order)

    async def load_thread_items(self, thread_id, after, limit, order, context):
        return page(self.find(thread_id, context).items, limit, after, order)

    async def load_item(self, thread_id, item_id, context):
        for item in self.find(thread_id, context).items:
            if item.id == item_id:
                return item.model_copy(deep=True)
        raise NotFoundError(item_id)

    async def add_thread_item(self, thread_id, item, context):
        self.touch(thread_id, context).items.append(item.model_copy(deep=True))

    async def save_item(self, thread_id, item, context):
        items = self.touch(thread_id, context).items
        items[:] = [item.model_copy(deep=True) if i.id == item.id else i for i in items]

    async def delete_thread(self, thread_id, context):
        self.find(thread_id, context)
        del self.visitors[context][thread_id]

    async def delete_thread_item(self, thread_id, item_id, context):
        items = self.touch(thread_id, context).items
        items[:] = [i for i in items if i.id != item_id]

    async def save_attachment(self, attachment, context):
        raise NotImplementedError

    async def load_attachment(self, attachment_id, context):
        raise NotFoundError(attachment_id)

    async def delete_attachment(self, attachment_id, context):
        raise NotImplementedError


def page(rows, limit, after, order):
    """Return the rows after an ID as a page. The oldest row comes first in rows."""
    rows = list(rows) if order == "asc" else list(reversed(rows))
    if after is not None:
        ids = [row.id for row in rows]
        rows = rows[ids.index(after) + 1 :] if after in ids else []
    data = [row.model_copy(deep=True) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(data=data, has_more=more, after=data[-1].id if more else None)


class Run:
    """A run of a model, as the reference's stream_agent_response takes one: OpenAI's
    events for what a script writes and cites."""

    def __init__(self, acts, item_id):
        self.acts = acts
        self.item_id = item_id

    def message(self, status, content):
        return responses.ResponseOutputMessage(
            id=self.item_id, type="message", role="assistant", status=status, content=content
        )

    async def stream_events(self):
        place = {"item_id": self.item_id, "output_index": 0, "content_index": 0}
        text = responses.ResponseOutputText(type="output_text", text="", annotations=[])

        def event(kind, type, **fields):
            data = kind(type=type, sequence_number=0, **fields)
            return RawResponsesStreamEvent(data=data.model_copy(deep=True))

        yield event(
            responses.ResponseOutputItemAddedEvent,
            "response.output_item.added",
            output_index=0,
            item=self.message("in_progress", []),
        )
        yield event(
            responses.ResponseContentPartAddedEvent,
            "response.content_part.added",
            part=text,
            **place,
        )
        for act in self.acts:
            if "write" in act:
                text.text += act["write"]
                yield event(
                    responses.ResponseTextDeltaEvent,
                    "response.output_text.delta",
                    delta=act["write"],
                    logprobs=[],
                    **place,
                )
            elif "cite" in act:
                end = len(text.text.encode("utf-16-le")) // 2
                cited = AnnotationURLCitation(
                    type="url_citation", start_index=end, end_index=end, **act["cite"]
                )
                text.annotations.append(cited)
                yield event(
                    responses.ResponseOutputTextAnnotationAddedEvent,
                    "response.output_text.annotation.added",
                    annotation=cited,
                    annotation_index=len(text.annotations) - 1,
                    **place,
                )
            else:
                await finish(act)
        yield event(
            responses.ResponseTextDoneEvent,
            "response.output_text.done",
            text=text.text,
            logprobs=[],
            **place,
        )
        yield event(
            responses.ResponseOutputItemDoneEvent,
            "response.output_item.done",
            output_index=0,
            item=self.message("completed", [text]),
        )


async def finish(act):
    """Do an act after which there are no others."""
    if "fail" in act:
        raise CustomStreamError(act["fail"]["message"], allow_retry=act["fail"]["retry"])
    if "crash" in act:
        raise RuntimeError(act["crash"])
    if "hang" in act:
        await asyncio.Event().wait()  # Until the visitor leaves.
    raise ValueError(f"unknown act {act}")


class Server(ChatKitServer):
    def __init__(self):
        super().__init__(Memory())
        self.attempts = {}
        self.assistant = Agent(
            name="Assistant",
            instructions="You answer questions about the docs.",
            model=OpenAIResponsesModel("gpt-6-luna", AsyncOpenAI()),
            model_settings=ModelSettings(store=False, reasoning=Reasoning(effort="none")),
        )

    async def respond(self, thread, input_user_message, context):
        question = "".join(part.text for part in input_user_message.content)
        attempt = self.attempts.get(input_user_message.id, 0)
        self.attempts[input_user_message.id] = attempt + 1
        if thread.title is None:
            thread.title = title_of(question)
        if STREAM in question:
            yield ProgressUpdateEvent(**SEARCHING["progress"])
            async for event in self.ask(thread, context):
                yield event
            return
        acts = script_of(question, attempt)
        while acts:
            act = acts.pop(0)
            if "progress" in act:
                yield ProgressUpdateEvent(**act["progress"])
            elif "notice" in act:
                yield NoticeEvent(**act["notice"])
            elif "close" in act:
                thread.status = ClosedStatus(reason=act["close"])
            elif TEXT.isdisjoint(act):
                await finish(act)
            else:
                # The text goes on until an act that is not a part of it.
                end = next((i for i, act in enumerate(acts) if not ASIDE.isdisjoint(act)), len(acts))
                said, acts = [act] + acts[:end], acts[end:]
                agent = AgentContext(thread=thread, store=self.store, request_context=context)
                run = Run(said, agent.generate_id("message"))
                async for event in stream_agent_response(agent, run):
                    yield event

    async def ask(self, thread, context):
        """Have the model answer the conversation, as ChatKit's documentation does."""
        items = await self.store.load_thread_items(thread.id, None, 20, "desc", context)
        said = await simple_to_agent_input(items.data[::-1])
        run = Runner.run_streamed(self.assistant, said, run_config=RunConfig(tracing_disabled=True))
        agent = AgentContext(thread=thread, store=self.store, request_context=context)
        async for event in stream_agent_response(agent, run):
            yield event


def script_of(question, attempt):
    if question.startswith(SCRIPT):
        scripts = json.loads(question.removeprefix(SCRIPT))
        return scripts[min(attempt, len(scripts) - 1)]
    words = question.split(" ")
    words = [word + " " for word in words[:-1]] + words[-1:]
    return [SEARCHING] + [{"write": word} for word in words if word]


def title_of(question):
    title = " ".join(question.split())
    if len(title) > TITLE:
        title = title[: TITLE + 1].rpartition(" ")[0] or title[:TITLE]
    return title


async def answer(server, reader, writer):
    """Answer one request, and end the connection."""
    try:
        request = await reader.readuntil(b"\r\n\r\n")
        start, _, rest = request.partition(b"\r\n")
        headers = http.client.parse_headers(io.BytesIO(rest))
        body = await reader.readexactly(int(headers["Content-Length"]))
        if not start.startswith(b"POST /chat "):
            respond(writer, 404, "text/plain", b"")
            return
        work = asyncio.create_task(chat(server, writer, body, headers["Authorization"]))
        left = asyncio.create_task(reader.read(1))
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        work.cancel()  # Does nothing to one that is done.
        await asyncio.wait({work})
    finally:
        writer.close()


async def chat(server, writer, body, visitor):
    """Answer a request of ChatKit's. What is raised before the first event is a 500,
    as any web framework answers it; what is raised later cuts the stream."""
    try:
        result = await server.process(body, visitor)
        if not isinstance(result, StreamingResult):
            respond(writer, 200, "application/json", result.json)
            return
        events = aiter(result)
        event = await anext(events, None)
    except Exception as fault:
        respond(writer, 500, "text/plain", type(fault).__name__.encode())
        return
    writer.write(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: text/event-stream\r\n\r\n"
    )
    while event is not None:
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        event = await anext(events, None)
    writer.write(b"0\r\n\r\n")


def respond(writer, status, kind, body):
    head = f"HTTP/1.1 {status} {http.client.responses[status]}\r\nConnection: close\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def main():
    chatkit = Server()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(lambda r, w: answer(chatkit, r, w), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"message": "listening", "address": f"{host}:{port}"}), flush=True)
    await stop.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
