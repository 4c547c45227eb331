"""A server of OpenAI's completions whose model is a table: the next token depends on the last one alone."""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from replication.policy import small_tokenizer

IDS = 30  # of the small tokenizer
LOGITS = 2 * torch.randn(IDS, IDS, generator=torch.Generator().manual_seed(0))


class StandIn(ThreadingHTTPServer):
    """Serves `name` from a free port of the loopback interface, in threads of its own.

    Tests replace `before`, which may answer a request in its stead by (status, body, headers), and `after`, which may
    change an answer; `mode` is of which distribution its log-probabilities are, as vLLM's --logprobs-mode.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, name: str, mode: str = "processed_logprobs"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.mode, self.room = name, mode, 256
        self.before = lambda path, body: None
        self.after = lambda path, body, answer: answer
        self.seen: list[tuple[str, dict, dict]] = []  # path, body, headers
        self.lock, self.now, self.most = threading.Lock(), 0, 0  # requests in flight
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that leave

    def die(self) -> None:
        """As if it was killed: nothing listens any more."""
        self.shutdown()
        self.server_close()

    def completion(self, body: dict) -> dict:
        prompt = body["prompt"]
        if isinstance(prompt, str):
            prompt = small_tokenizer().encode(prompt, add_special_tokens=False)
        chance, tokens, kept, tops = random.Random(body.get("seed")), [], [], []
        t, k, count = body.get("temperature", 1.0), body.get("top_k", 0), body.get("logprobs")
        while len(tokens) < body["max_tokens"] and (not tokens or tokens[-1] not in body.get("stop_token_ids", [])):
            raw = torch.log_softmax(LOGITS[[*prompt, *tokens][-1]], -1)
            drawn = LOGITS[[*prompt, *tokens][-1]] / t
            if k:
                drawn = drawn.masked_fill(drawn < drawn.topk(k).values[-1], -math.inf)
            drawn = torch.log_softmax(drawn, -1)
            token = chance.choices(range(IDS), drawn.exp().tolist())[0]
            logp = (drawn if self.mode == "processed_logprobs" else raw).clamp(min=-9999.0)
            likeliest = {*logp.topk(count or 1).indices.tolist(), token}
            tokens.append(token)
            kept.append(float(logp[token]))
            tops.append({f"token_id:{i}": float(logp[i]) for i in likeliest})
        why = "stop" if tokens[-1] in body.get("stop_token_ids", []) else "length"
        logprobs = {"token_logprobs": kept, "top_logprobs": tops} if count is not None else None
        choice = {"logprobs": logprobs, "finish_reason": why, "token_ids": tokens, "prompt_token_ids": prompt}
        return {"choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *about):
        pass

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(body)

    def answer(self, body):
        served, path = self.server, self.path.removeprefix("/v1/")
        with served.lock:
            served.seen.append((path, body, dict(self.headers)))
            served.now += 1
            served.most = max(served.most, served.now)
        try:
            status, answer, headers = self.made(path, body)
        finally:
            with served.lock:
                served.now -= 1
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    def made(self, path, body):
        served = self.server
        instead = served.before(path, body)
        if instead is not None:
            return instead
        if path == "models":
            cards = [{"id": served.name, "root": served.name, "max_model_len": served.room}]
            return 200, served.after(path, body, {"data": cards}), {}
        if path != "completions":
            return 404, {"detail": "Not Found"}, {}
        return 200, served.after(path, body, served.completion(body)), {}
