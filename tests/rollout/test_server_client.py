"""A server as an engine, against one that is made up; tests/with_vllm has the same against vLLM's own."""

import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from stand_in import IDS, LOGITS, StandIn

from replication import generate
from replication.__main__ import SETTINGS
from replication.cli import load_run
from replication.config import ErasureConfig, PolicyConfig, RolloutConfig
from replication.errors import UserError, run_command
from replication.loading import eos_ids, load_policy
from replication.policy import save_policy, small_model, small_tokenizer
from replication.rollout.engine import finish, roll_out, rolling
from replication.rollout.server import client
from replication.rollout.server.engine import ServerEngine
from replication.seeds import seed_for

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
PROMPTS = [[5 + (7 * i + j * j) % 25 for j in range(3 + 5 * i % 20)] for i in range(6)]
KEYS = torch.tensor([seed_for(0, p, m) for p in range(len(PROMPTS)) for m in range(4)])
ROLLOUT = RolloutConfig(
    engine="server", group_size=4, segments=4, segment_tokens=6, max_rows=12, temperature=0.8, server="http://x"
)
ERASED = ErasureConfig(kappa=0.0, growth=0.2, history=0.3, cap=3, window=3)
SECRET = "sk-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("server") / "policy"
    path.mkdir()
    save_policy(small_model(SIZE, small_tokenizer(), 0), small_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def described(folder):
    return load_policy(str(folder), weights=False)


@pytest.fixture
def start(folder, monkeypatch):
    """Starts servers, which are stopped at the end; what is tried again is so at once."""
    monkeypatch.setattr(client, "FIRST", 0.01)
    running = []

    def one(*mode):
        running.append(StandIn(str(folder), *mode))
        return running[-1]

    yield one
    for server in running:
        server.shutdown()


def sample(described, *servers, rollout=ROLLOUT, erasure=ERASED, watcher=None):
    model, tokenizer = described
    settings = replace(rollout, server=",".join(server.address for server in servers))
    engine = ServerEngine(model, tokenizer, settings)
    return roll_out(engine, PROMPTS, KEYS, settings, erasure, eos_ids(model, tokenizer), 0, watcher=watcher)


def want(done, row, tokens, start, temperature):
    """Log-probabilities of tokens that follow the first `start` of a completion."""
    last = [*done.prompts[row // done.group_size], *done.tokens[row, :start].tolist()][-1]
    logp = torch.log_softmax(LOGITS[torch.tensor([last, *tokens[:-1]])] / temperature, -1)
    return logp.gather(1, torch.tensor(tokens)[:, None]).squeeze(1)


def test_segments_are_requests_and_erased_ones_are_asked_for_again(described, start):
    server = start()
    done = sample(described, server)
    assert len(done.attempts) > 20 and done.row_steps == int(done.length.sum() + done.erased_tokens.sum())
    for row in range(len(done.tokens)):
        tokens = done.tokens[row, : int(done.length[row])].tolist()
        torch.testing.assert_close(done.logp[row, : len(tokens)], want(done, row, tokens, 0, 0.8))
    for a in done.attempts:
        torch.testing.assert_close(torch.tensor(a.logp), want(done, a.row, a.tokens, a.start, 0.8))
    bodies = [body for path, body, _ in server.seen if path == "completions"][4:]
    assert len(bodies) == int(done.segments.sum()) + len(done.attempts)
    assert len({body["seed"] for body in bodies}) == len(bodies), "each attempt has a seed of its own"
    assert all(body["temperature"] == 0.8 and body["max_tokens"] == 6 and body["ignore_eos"] for body in bodies)
    again = sample(described, start())
    assert torch.equal(again.tokens, done.tokens) and torch.equal(again.erasures, done.erasures)
    assert "entropy" not in done.measured


def test_as_many_are_in_flight_as_rows_are_allowed(described, start):
    server, met = start(), threading.Barrier(ROLLOUT.max_rows)

    def before(path, body):
        if "seed" in body and len(server.seen) <= 5 + ROLLOUT.max_rows:
            met.wait(60)  # the first ones for each other

    server.before = before
    sample(described, server)
    assert server.most == ROLLOUT.max_rows < len(KEYS)


def test_what_fails_is_asked_for_again(described, start):
    """500 twice, then 429 that says when, then a connection that is closed: the completions are the same."""
    whole, server = sample(described, start()), start()
    failed = {}

    def before(path, body):
        count = failed[str(body)] = failed.get(str(body), 0) + 1
        if path == "completions" and count <= 2:
            return 500, {"error": {"message": "the engine\nis tired"}}, {}
        return (429, b"", {"Retry-After": "0"}) if path == "completions" and count == 3 and "seed" in body else None

    server.before = before
    assert torch.equal(sample(described, server).tokens, whole.tokens)
    assert set(failed.values()) == {1, 3, 4}, "models, what is asked at the start, segments"


def test_two_rollouts_in_turns_have_no_more_in_flight(described, start):
    """And each is what it is alone."""
    alone = sample(described, start())
    server, (model, tokenizer) = start(), described
    server.after = lambda path, body, answer: time.sleep(0.002) or answer
    settings = replace(ROLLOUT, server=server.address)
    engine = ServerEngine(model, tokenizer, settings)
    ends = eos_ids(model, tokenizer)
    both = [rolling(engine, PROMPTS, KEYS, settings, ERASED, ends, 0) for _ in range(2)]
    for _ in range(20):
        for steps in both:
            next(steps)
    assert all(torch.equal(finish(steps).tokens, alone.tokens) for steps in both)
    assert ROLLOUT.max_rows / 2 < server.most <= ROLLOUT.max_rows
    engine.close()


def test_a_server_that_was_busy_for_long_may_fail_once(described, start):
    """And one that gives a request up is asked again; both are there."""
    whole, server, asked = sample(described, start()), start(), {}

    def before(path, body):
        if "seed" not in body:
            return None
        count = asked[str(body)] = asked.get(str(body), 0) + 1
        return (429, b"", {}) if count <= 7 else (500, b"once", {}) if count == 8 else None

    def after(path, body, answer):
        if asked.get(str(body)) == 9:
            answer["choices"][0].update(finish_reason="abort", token_ids=[], logprobs=None)
        return answer

    server.before, server.after = before, after
    assert torch.equal(sample(described, server).tokens, whole.tokens)
    assert set(asked.values()) == {10}


@pytest.mark.parametrize("prompts", [6, 1])
def test_servers_share_the_rows_and_one_that_dies_loses_nothing(described, start, capfd, monkeypatch, prompts):
    monkeypatch.setattr(sys.modules[__name__], "PROMPTS", PROMPTS[:prompts])
    monkeypatch.setattr(sys.modules[__name__], "KEYS", KEYS[: 4 * prompts])
    whole, first, second = sample(described, start()), start(), start()
    assert torch.equal(sample(described, first, second).tokens, whole.tokens)
    shares = [sum("seed" in body for _, body, _ in server.seen) for server in (first, second)]
    assert min(shares) > 0.2 * max(shares)
    served = []

    def before(path, body):
        served.extend(["segment"] if "seed" in body else [])
        if len(served) == shares[1] // 2:
            threading.Thread(target=second.die).start()
        return (500, b"dying", {}) if len(served) >= shares[1] // 2 else None

    second.before = before
    capfd.readouterr()
    assert torch.equal(sample(described, first, second).tokens, whole.tokens)
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and f"{second.address} is gone (" in line and "go on at the other" in line


def test_when_all_are_gone_it_is_one_line(described, start):
    first, second = start(), start()
    first.before = second.before = lambda path, body: (500, b"no", {}) if len(first.seen) > 20 else None
    with pytest.raises(UserError, match=r"no server is left \(.*500: no; .*\): start it, and run the same") as error:
        sample(described, first, second)
    assert "\n" not in str(error.value)


def test_what_is_in_flight_is_given_up_where_a_rollout_ends(described, start):
    """Even while a server is silent, and one that asks for patience is waited for."""
    server, begin = start(), time.monotonic()

    def before(path, body):
        if len(server.seen) > 12 and len(server.seen) % 3 == 0:
            time.sleep(30)
        return (429, b"", {"Retry-After": "30"}) if len(server.seen) > 12 and len(server.seen) % 3 == 1 else None

    server.before = before
    server.after = lambda path, body, answer: {} if len(server.seen) > 16 else answer
    with pytest.raises(UserError, match="answers with what is no completion"):
        sample(described, server)
    assert time.monotonic() - begin < 15


def changed(**fields):
    """Changes fields of a completion."""
    return lambda path, body, answer: (
        {"choices": [{**answer["choices"][0], **fields}]} if path == "completions" else answer
    )


def other_tokenizer(path, body, answer):
    if isinstance(body.get("prompt"), str):
        answer["choices"][0]["prompt_token_ids"] = [5, *answer["choices"][0]["prompt_token_ids"]]
    return answer


LOGIT = {"token_logprobs": [3.2], "top_logprobs": [{"token_id:5": 3.2, "token_id:6": 1.1}]}
FLAT = {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:5": -1.0, "token_id:6": -1.0}]}
FAULTS = {  # what answers in its stead, or changes the answer, and the line
    "key": (
        lambda path, body: (401, {"error": "Unauthorized"}, {}),
        None,
        "401 (Unauthorized): set its key in the env",
    ),
    "path": (
        lambda path, body: (404, {"detail": "Not Found"}, {}),
        None,
        "models answers 404 (Not Found): give the add",
    ),
    "page": (lambda path, body: (200, b"<html>It works!</html>", {}), None, "answers with what is no JSON"),
    "moved": (lambda path, body: (307, b"", {"Location": "/"}), None, "answers 307 (): correct the settings"),
    "models": (None, lambda path, body, answer: {"data": [{}]}, "/v1/models names no models"),
    "list": (None, lambda path, body, answer: answer if path == "models" else {"choices": []}, "what is no completion"),
    "ids": (None, changed(token_ids=None), "gives no token ids (return_token_ids)"),
    "sent": (None, changed(prompt_token_ids=[1, 5]), "reads other ids than it was sent"),
    "logprobs": (None, changed(logprobs=None), "gives no log-probabilities (logprobs)"),
    "logits": (None, changed(logprobs=LOGIT), "gives logits for log-probabilities: start it with --logprobs-mode proc"),
    "flat": (None, changed(logprobs=FLAT), "follow no temperature: at 0.5 they lie 0 nats apart, at 1 0"),
    "tokenizer": (None, other_tokenizer, "with another tokenizer than --model has"),
    "down": (lambda path, body: (503, b"loading", {}), None, "cannot be reached (503: loading): start the server"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_will_not_do_is_one_line(described, start, monkeypatch, fault):
    monkeypatch.setattr(client, "BUSY", 3)
    server, (before, after, message) = start(), FAULTS[fault]
    server.before, server.after = before or server.before, after or server.after
    with pytest.raises(UserError) as error:
        sample(described, server)
    line = str(error.value)
    assert message in line and server.address in line and "\n" not in line and len(line) < 400


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (changed(token_ids=[5, 6], finish_reason="stop"), "answered without log-probabilities|after 2 of 6 tokens"),
        (changed(token_ids=[5, 6, 7, 8, 9, IDS]), "after 6 of 6 tokens"),
        (changed(logprobs={"token_logprobs": ["x"]}), "answered without log-probabilities"),
    ],
)
def test_a_segment_that_is_none_is_one_line(described, start, after, message):
    server = start()
    server.after = lambda path, body, answer: after(path, body, answer) if "seed" in body else answer
    with pytest.raises(UserError, match=message) as error:
        sample(described, server)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_one_line(described, start):
    server = start()
    server.die()
    with pytest.raises(
        UserError, match=rf"{server.address} cannot be reached \(ConnectionRefusedError.*start the serv"
    ):
        sample(described, server)


def test_the_model_is_the_one_that_is_served(described, start, folder):
    server = start()
    server.name = "another/model"
    with pytest.raises(UserError, match=rf"serves another/model, and --model is {folder}: .*--rollout.served NAME"):
        sample(described, server)
    with pytest.raises(UserError, match=r"does not serve it but another/model: correct --rollout.served"):
        sample(described, server, rollout=replace(ROLLOUT, served="it"))
    sample(described, server, rollout=replace(ROLLOUT, served="another/model"))
    server.room = 24
    with pytest.raises(UserError, match=r"reads 24 tokens at most, and a completion may have 4 x 6: .*--max-model-len"):
        sample(described, server, rollout=replace(ROLLOUT, served="another/model"))
    server.room = 30
    with pytest.raises(
        UserError, match=r"prompt 1 has 8 tokens .* beside it the model reads 6: lower rollout.segments"
    ):
        sample(described, server, rollout=replace(ROLLOUT, served="another/model"))


RAW, PROCESSED = "raw_logprobs", "processed_logprobs"


@pytest.mark.parametrize(
    ("mode", "settings", "message"),
    [
        (RAW, {}, "at temperature 1, and .* at temperature 0.8: start it with --logprobs-mode processed_logprobs"),
        (RAW, {"temperature": 1.0, "top_k": 5}, None),
        (PROCESSED, {"temperature": 0.005}, "^temperature = 0.005, and vLLM draws at 0.01 to 2: "),
        (RAW, {"temperature": 1.0, "cool_fraction": 0.5}, None),
        (RAW, {"top_k": 5}, "no server gives these; .*--rollout.engine vllm"),
        (PROCESSED, {}, None),
        (PROCESSED, {"temperature": 1.0, "top_p": 0.9}, "top-k and top-p leave.* start it with --logprobs-mode raw_lo"),
        (PROCESSED, {"top_k": 5}, "of what top-k and top-p leave, and .*no server gives these"),
        (PROCESSED, {"cool_fraction": 0.5}, "at each completion's own temperature"),
    ],
)
def test_log_probabilities_are_those_of_the_whole_distribution_or_refused(described, start, mode, settings, message):
    rollout = replace(ROLLOUT, **settings)
    if message:
        with pytest.raises(UserError, match=message) as error:
            sample(described, start(mode), rollout=rollout)
        assert "\n" not in str(error.value)
        return
    done = sample(described, start(mode), rollout=rollout)
    for row in range(len(done.tokens)):
        tokens = done.tokens[row, : int(done.length[row])].tolist()
        torch.testing.assert_close(done.logp[row, : len(tokens)], want(done, row, tokens, 0, rollout.temperature))


def test_the_key_is_sent_and_never_said(described, start, monkeypatch):
    monkeypatch.setenv(client.KEY, SECRET)
    server = start()
    sample(described, server)
    assert {headers["Authorization"] for _, _, headers in server.seen} == {f"Bearer {SECRET}"}
    server.before = lambda path, body: (403, {"error": {"message": f"{SECRET} is not allowed"}}, {})
    with pytest.raises(UserError, match=r"403 \(\*\*\* is not allowed\): correct its key") as error:
        sample(described, server)
    assert SECRET not in str(error.value)
    monkeypatch.setenv(client.KEY, SECRET + "\nX: y")
    with pytest.raises(UserError, match="has characters that no key has") as error:
        sample(described, server)
    assert SECRET not in str(error.value)


def test_entropy_is_refused(described, start):
    with pytest.raises(UserError, match=r"erasure.uncertainty = 'entropy' needs the whole .* take surprisal"):
        sample(described, start(), erasure=replace(ERASED, uncertainty="entropy"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "rollout.engine = server needs its address: give --rollout.server"),
        (["--rollout.server=http://me:secret@host"], "rollout.server has a user, a key or a query in it"),
        (["--rollout.server=http://host?key=secret"], "rollout.server has a user, a key or a query in it"),
        (
            ["--rollout.server=host:8000"],
            "rollout.server = 'host:8000' is not an address such as http://127.0.0.1:8000",
        ),
        (["--rollout.server=http://a,http://b:99999"], "'http://b:99999' is not an address"),
        (["--rollout.server=http://a", "--algorithm=e3rl"], "is for generate and evaluate"),
    ],
)
def test_settings_that_cannot_be_are_one_line(flags, message):
    sections = ["rollout", *(["train"] if flags[1:] else [])]
    with pytest.raises(UserError) as error:
        load_run(sections, ["--rollout.engine=server", *flags])
    assert message in str(error.value) and "secret" not in str(error.value) and "\n" not in str(error.value)


def test_addresses_are_taken_with_and_without_their_end():
    assert replace(ROLLOUT, server="http://a:1/v1, http://b/x/ ,http://a:1/v1").addresses == [
        "http://a:1/v1",
        "http://b/x/",
    ]
    assert (
        client.Server("http://a:1/v1/").address == "http://a:1"
        and client.Server("https://b/x/").address == "https://b/x"
    )


def test_generate_asks_a_server_and_reads_no_weights(folder, start, monkeypatch, tmp_path, capsys):
    server = start()
    monkeypatch.chdir(tmp_path)
    light = tmp_path / "light"
    light.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (light / path.name).write_bytes(path.read_bytes())
    server.name = str(light)

    def ask(*flags):
        asked = ["--model=light", "--prompt=12+3", "--rollout.engine=server", f"--rollout.server={server.address}"]
        asked += ["--rollout.segments=4", "--rollout.segment_tokens=6", "--trace=out.html", *flags]
        monkeypatch.setattr(sys, "argv", ["generate", *asked, "--params", str(SETTINGS)])
        code = 0
        try:
            run_command(generate.main)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    server.before = lambda path, body: (500, b"no", {}) if len(server.seen) > 9 else None
    code, said, line = ask()
    assert code == 2 and line.count("\n") == 1 and "no server is left" in line  # what was said before stays
    assert not (tmp_path / "out.html").exists()
    server.before = lambda path, body: None
    code, said, about = ask()
    assert code == 0 and said.strip() and "4 completions, " in about and (tmp_path / "out.html").exists()
    code, said, line = ask("--erasure.uncertainty=entropy")
    assert code == 2 and not said and line.count("\n") == 1 and "needs the whole distribution" in line
