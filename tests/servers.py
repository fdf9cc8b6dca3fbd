"Servers on loopback for tests: one that follows a script, in a thread, and one with a real language model behind it"
import asyncio
import json
import socket
import ssl
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import isawaitable
from typing import Any

def need_litellm() -> Any:
    "litellm, imported as the library imports it, without its fetch of prices; the test is skipped where it is not installed"
    import pytest
    from rerankers.errors import installed
    from rerankers.llm.litellm import litellm_module
    if not installed("litellm"): pytest.skip("litellm is not installed")
    return litellm_module()


# ---- what a server may do


@dataclass(frozen=True)
class Say:
    "One answer, as broken as need be"
    body: Any = b""                 # bytes and text go out as they are, everything else as JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0              # Seconds before the first byte; `inf` never answers
    drip: float = 0.0               # Seconds between single bytes of the body
    cut: int | None = None          # Bytes of the body after which the connection breaks; -1: before anything
    length: int | None = None       # The Content-Length that is claimed
    raw: bytes | None = None        # All that is said, without HTTP
    reset: bool = False             # The connection ends with a reset (RST), where it ends
    forever: bool = False           # The body again and again, until the client hangs up; its length is not told

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes): return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    @property
    def head(self) -> bytes:
        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Whatever"
        length = {} if self.forever else {"Content-Length": str(len(self.content) if self.length is None else self.length)}
        lines = ({"Content-Type": "text/plain" if isinstance(self.body, (str, bytes)) else "application/json"} | length | dict(self.headers)).items()
        return f"HTTP/1.1 {self.status} {phrase}\r\n{''.join(f'{name}: {value}' + chr(13) + chr(10) for name, value in lines)}\r\n".encode()


@dataclass
class Seen:
    "One request, as it came"
    method: str
    path: str
    headers: dict[str, str]         # Names in lower case
    body: bytes
    begun: float                    # time.monotonic()
    sent: int = 0                   # Bytes of the body that went back one by one

    @property
    def json(self) -> Any: return json.loads(self.body)


Script = Sequence[Any] | Callable[[Seen], Any]     # Answers in turn, the last one again and again; or a function that finds one, which may wait for it


class Scripted:
    "An HTTP server in a thread: `with Scripted([Say(status=500), {\"choices\": …}]) as server: … server.url`"

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, leap: Callable[[float], Any] | None = None):
        self.host, self.tls, self.sent = host, tls, 0
        self.leap = leap    # Moves the client's clock on, instead of waiting; for one request at a time
        self.script, self.seen, self.under_way, self.most, self.connections, self.opened = script, list[Seen](), 0, 0, 0, 0

    def __enter__(self) -> "Scripted":
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self.thread.start()
        assert ready.wait(10), "the scripted server did not start"
        return self

    def __exit__(self, *_: Any) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)

    def unread(self) -> int:
        "Requests that come in while two others, sent now, are answered: what was on the line before them has been read by then"
        before, opener = len(self.seen), urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(2): opener.open(self.url.removesuffix("/v1") + "/count", timeout=120).read()
        return len(self.seen) - before

    @property
    def url(self) -> str: return f"http{'s' * bool(self.tls)}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"

    @property
    def bodies(self) -> list[Any]: return [seen.json for seen in self.seen]

    async def _serve(self, ready: threading.Event) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, self.host, 0, backlog=512, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.over.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        "Requests of one connection, until either side closes it"
        self.connections, self.opened = self.connections + 1, self.opened + 1
        try:
            while await self._exchange(reader, writer): pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError): pass     # the other side is gone, or the server ends
        finally:
            self.connections -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        "One request and its answer; False where the connection ends with it"
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        begun, body = time.monotonic(), await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = head[0].split(" ")
        seen = Seen(method, path, headers, body, begun)
        if method == "GET" and path == "/count": return await self._send(reader, writer, Say({"seen": len(self.seen), "most": self.most}))
        if method == "GET" and path == "/connections": return await self._send(reader, writer, Say({"now": self.connections - 1, "opened": self.opened}))
        self.seen.append(seen)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try: return await self._send(reader, writer, await self._answer(seen), seen)
        finally: self.under_way -= 1

    async def _answer(self, seen: Seen) -> Say:
        if callable(self.script): found = await asyncio.to_thread(self.script, seen) if getattr(self.script, "slow", False) else self.script(seen)
        else: found = self.script[min(len(self.seen), len(self.script)) - 1]
        if isawaitable(found): found = await found
        return found if isinstance(found, Say) else Say(found)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, say: Say, seen: Seen | None = None) -> bool:
        if say.delay and not await self._patient(reader, say.delay): return False
        if say.reset: writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))     # for when it closes
        if say.cut == -1: return False
        writer.write(say.head if say.raw is None else say.raw)
        content = say.content if say.raw is None else b""
        while say.forever:
            writer.write(content)
            await writer.drain()    # raises when the client has hung up
            self.sent += len(content)
        for i in range(len(content)) if say.drip else ():
            writer.write(content[i:i + 1])
            await writer.drain()
            if seen: seen.sent += 1
            if not await self._patient(reader, say.drip): return False
        if not say.drip: writer.write(content[:say.cut])
        await writer.drain()
        return say.cut is None and say.raw is None and (say.length or 0) <= len(content)

    async def _patient(self, reader: asyncio.StreamReader, seconds: float) -> bool:
        "Wait; False when the client hangs up meanwhile. A client that waits says nothing, so whatever can be read is the end"
        if self.leap:
            await asyncio.to_thread(self.leap, min(seconds, 3600))
            seconds = seconds if seconds == float("inf") else 0.001
        if seconds == float("inf"): seconds = 3600
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), seconds)
            return False
        return True

    def wait(self, true: Callable[[], bool], seconds: float = 120.0) -> bool:
        "Does it ever become true?"
        end = time.monotonic() + seconds
        while not true() and time.monotonic() < end: time.sleep(0.01)
        return true()


# ---- chat


def chat(content: Any, *, tokens: tuple[int, int] = (10, 5), **more: Any) -> dict[str, Any]:
    "A chat completion as OpenAI writes it"
    return {"id": "chat-1", "object": "chat.completion", "created": 1_700_000_000, "model": "test",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop", **more}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}}


class Model:
    """OpenAI's two paths over plain transformers: `Scripted(Model(model, tokenizer))`. Greedy, one request at a time; it keeps what it counted. What it has
    written it need not compute again: `said` is a dictionary that several may share"""
    slow = True     # answers in a thread, so that connections go on

    def __init__(self, model: Any, tokenizer: Any, said: dict[str, Any] | None = None):
        self.model, self.tokenizer, self.lock, self.counted = model, tokenizer, threading.Lock(), list[tuple[int, int]]()
        self.said = {} if said is None else said

    def __call__(self, seen: Seen) -> Say:
        body, is_chat = seen.json, seen.path == "/v1/chat/completions"
        if not is_chat and seen.path != "/v1/completions": return Say({"error": {"message": f"no {seen.path} here"}}, status=404)
        if body.get("temperature", 0) != 0: return Say({"error": {"message": "greedy only"}}, status=400)
        prompt = self._formatted(body["messages"]) if is_chat else body["prompt"]
        asked = repr([prompt, is_chat, *(body.get(option) for option in ("max_tokens", "stop", "logprobs", "top_logprobs"))])
        with self.lock:
            if asked not in self.said: self.said[asked] = self._written(prompt, body, special=not is_chat)
            text, finish, listed, tokens = self.said[asked]
        self.counted.append(tokens)
        return Say(chat(text, tokens=tokens, finish_reason=finish, logprobs=listed if is_chat and body.get("logprobs") else None) if is_chat else
                   {"choices": [{"index": 0, "text": text, "finish_reason": finish, "logprobs": self._flat(listed)}],
                    "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}})

    def _formatted(self, messages: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _written(self, prompt: str, body: dict[str, Any], special: bool) -> tuple[str, str, dict[str, Any], tuple[int, int]]:
        import torch
        asked = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=special).input_ids
        listed = body.get("top_logprobs") or body.get("logprobs") or 0
        with torch.inference_mode():
            out = self.model.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=body.get("max_tokens", 64), do_sample=False,
                                      pad_token_id=self.tokenizer.eos_token_id, output_scores=True, return_dict_in_generate=True)
        written = out.sequences[0, asked.shape[1]:].tolist()
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        stops = [text.index(stop) for stop in body.get("stop") or () if stop in text]
        ended = stops or written[-1] == self.tokenizer.eos_token_id
        scores = [s[0].float().log_softmax(-1) for s in out.scores[:1]] if listed is not True and listed else []
        return (text[:min(stops, default=None)], "stop" if ended else "length", {"content": [self._listing(s, listed) for s in scores]},
                (asked.shape[1], len(written)))

    def _listing(self, logprobs: Any, listed: int) -> dict[str, Any]:
        best = logprobs.topk(listed)
        tokens = [{"token": self.tokenizer.decode([i]), "logprob": p, "bytes": None} for i, p in zip(best.indices.tolist(), best.values.tolist())]
        return {**tokens[0], "top_logprobs": tokens}

    def _flat(self, listed: dict[str, Any]) -> dict[str, Any] | None:
        "The listing of the older path; tokens that look the same would collide, so the likelier one stays"
        if not listed["content"]: return None
        return {"top_logprobs": [{t["token"]: t["logprob"] for t in reversed(position["top_logprobs"])} for position in listed["content"]]}
