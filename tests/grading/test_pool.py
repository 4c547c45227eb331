"""The grader as a whole: hangs, deaths, threads, forks, what is left behind, and hostile answers."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.grading import busy
from replication.grading.client import Worker
from replication.grading.pool import Graded, Grader
from replication.grading.verdict import Verdict

pytestmark = pytest.mark.slow  # hangs, kills and new processes take their time

HANGS = r"\boxed{\int_0^{10^{6}} \lfloor x^{x} \rfloor dx}"  # sympy works on this for minutes
SCORING_CASES = Path(__file__).parents[2].parent / "shared" / "data" / "scoring_cases.jsonl"
SYMBOLIC = ("x^2+1", r"\boxed{1+x^2}")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, time_limit=1.0) as grader:
        yield grader


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """The processes of `pids` that are still running after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [pid for pid in pids if is_running(pid)]


def test_rewards_are_one_for_correct_and_zero_for_the_rest(grader: Grader) -> None:
    graded = grader.grade_many([("5", r"\boxed{5}"), ("5", r"\boxed{6}"), ("5", "5"), SYMBOLIC])
    assert [(item.verdict, item.answer, item.reward) for item in graded] == [
        (Verdict.CORRECT, "5", 1.0),
        (Verdict.WRONG, "6", 0.0),
        (Verdict.NO_ANSWER, None, 0.0),
        (Verdict.CORRECT, "1+x^2", 1.0),
    ]
    assert Graded(Verdict.TIMED_OUT, "x", "", 1.0).reward == 0.0
    assert grader.grade_many([]) == []


def test_a_hang_costs_one_item_and_two_tries(grader: Grader) -> None:
    grader.grade(*SYMBOLIC)
    pairs = [("1", HANGS), *[(f"x+{i}", rf"\boxed{{{i}+x}}") for i in range(20)]]
    hung, *others = grader.grade_many(pairs)
    assert hung.verdict is Verdict.TIMED_OUT and "3 s of CPU time" in hung.reason and hung.seconds > 3.9
    assert [item.verdict for item in others] == [Verdict.CORRECT] * 20
    assert grader.grade("1", HANGS).reason == "cached"


def test_repeated_pairs_are_checked_once(grader: Grader) -> None:
    first, again, other = (grader.grade(gold, r"\boxed{2+2y}") for gold in ("2(y+1)", "2(y+1)", "y+1"))
    assert (first.reason, again.reason, other.reason) == ("math-verify", "cached", "math-verify")
    assert (first.verdict, again.verdict, other.verdict) == (Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG)


@pytest.mark.parametrize("who", [pytest.param("worker", marks=pytest.mark.slow), "checker"])
def test_a_kill_from_outside_costs_nothing(who: str) -> None:
    with Grader(workers=1) as grader:
        grader.grade(*SYMBOLIC)
        (worker,) = grader.worker_pids
        (checker,) = children(worker)
        victim = worker if who == "worker" else checker
        os.kill(victim, signal.SIGSTOP)  # so that it cannot be done before
        threading.Timer(0.5, os.kill, (victim, signal.SIGKILL)).start()
        assert grader.grade("x+1", r"\boxed{1+x}").verdict is Verdict.CORRECT
        assert not is_running(victim)


def test_a_worker_that_is_stopped_for_longer_than_the_limit_goes_on() -> None:
    with Grader(workers=1, time_limit=0.5) as grader:
        grader.grade(*SYMBOLIC)
        (worker,) = grader.worker_pids
        family = [worker, *children(worker)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(2.0, os.kill, (pid, signal.SIGCONT)).start()
        assert grader.grade("x+1", r"\boxed{1+x}").verdict is Verdict.CORRECT
        assert [worker, *children(worker)] == family  # at the first try


@pytest.mark.slow
def test_a_worker_killed_while_idle_costs_nothing() -> None:
    with Grader(workers=1) as grader:
        grader.grade(*SYMBOLIC)
        (worker,) = grader.worker_pids
        os.kill(worker, signal.SIGKILL)
        assert wait_until_gone([worker], 90.0) == []
        assert grader.grade("x+2", r"\boxed{2+x}").verdict is Verdict.CORRECT


@pytest.mark.slow
def test_a_hung_check_without_its_worker_ends_at_its_time_limit() -> None:
    with Grader(workers=1, time_limit=1.0) as grader:
        grader.grade(*SYMBOLIC)
        (worker,) = grader.worker_pids
        orphans = children(worker)
        threading.Timer(0.3, os.kill, (worker, signal.SIGKILL)).start()
        assert "3 s of CPU time" in grader.grade("1", HANGS).reason
    assert wait_until_gone(orphans, 90.0) == []


def test_memory_is_limited(grader: Grader) -> None:
    for answer in (r"2^{10^{11}}+1", r"\binom{10^{9}}{5\cdot 10^{8}}", "10^{10^{10}}-1"):
        graded = grader.grade("7", rf"\boxed{{{answer}}}")
        assert graded.verdict in (Verdict.WRONG, Verdict.TIMED_OUT)
    assert grader.grade("z+1", r"\boxed{1+z}").verdict is Verdict.CORRECT


def test_any_thread_may_grade(grader: Grader) -> None:
    verdicts: dict[int, Verdict] = {}

    def grade(i: int) -> None:
        verdicts[i] = grader.grade(f"{i}w+1", rf"\boxed{{1+{i}w}}").verdict

    threads = [threading.Thread(target=grade, args=(i,)) for i in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == dict.fromkeys(range(2, 10), Verdict.CORRECT)


def _grade_in_another_process(grader: Grader, results: multiprocessing.Queue[tuple[str, list[int]]]) -> None:
    results.put((grader.grade("v+1", r"\boxed{1+v}").verdict, grader.worker_pids))
    grader.close()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_another_process_gets_workers_of_its_own(grader: Grader, method: str) -> None:
    grader.grade(*SYMBOLIC)
    before = grader.worker_pids
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_grade_in_another_process, args=(grader, results))
    process.start()
    verdict, theirs = results.get(timeout=600)
    process.join(timeout=600)
    assert verdict == Verdict.CORRECT and len(theirs) == 1 and not set(theirs) & set(before)
    assert process.exitcode == 0 and wait_until_gone(theirs, 90.0) == []
    assert grader.worker_pids == before and grader.grade("u+1", r"\boxed{1+u}").verdict is Verdict.CORRECT


def test_nothing_is_left_after_close() -> None:
    grader = Grader(workers=1)
    grader.grade(*SYMBOLIC)
    pids = grader.worker_pids
    pids += [checker for pid in pids for checker in children(pid)]
    assert len(pids) == 2 and all(map(is_running, pids))
    grader.close()
    grader.close()
    assert wait_until_gone(pids, 90.0) == []
    with pytest.raises(RuntimeError, match="closed"):
        grader.grade(*SYMBOLIC)


@pytest.mark.parametrize(
    "end", [pytest.param("", marks=pytest.mark.slow), "os.kill(os.getpid(), 9)"], ids=["exit", "kill -9"]
)
def test_workers_leave_with_the_program(end: str) -> None:
    program = (
        "import os; from replication.grading.pool import Grader\n"
        "grader = Grader(); grader.grade('x+1', r'\\boxed{1+x}')\n"
        f"print(*grader.worker_pids, flush=True); {end}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert wait_until_gone([int(pid) for pid in done.stdout.split()], 90.0) == [] and done.stdout
    assert done.stderr == ""


def test_settings_are_checked_and_travel() -> None:
    with pytest.raises(ValueError, match="positive"):
        Grader(workers=0)
    copy = pickle.loads(pickle.dumps(Grader(workers=3, time_limit=0.5, memory_limit=1 << 29)))
    assert (copy.workers, copy.time_limit, copy.memory_limit) == (3, 0.5, 1 << 29)


def test_model_text_is_never_run(grader: Grader, tmp_path: Path) -> None:
    target = tmp_path / "injected"
    call = f"__import__('os').system('touch {target}')"
    opened = f"open('{target}','w')"
    texts = [call, rf"\text{{{call}}}", rf"0*({call})", rf"\pi*0 if {call} else 0", f"{opened} and 3", f"3+0*{opened}"]
    texts += [
        rf"\immediate\write18{{touch {target}}}",
        f"eval({opened!r})",
        f"lambda: {call}",
        f"1;{call}",
        f"$(touch {target})",
    ]
    texts += [f"`touch {target}`", rf"\input{{|touch {target}}}", f"x={call}", f"sympify({opened!r})", f"{{{call}}}"]
    graded = grader.grade_many([(gold, rf"\boxed{{{text}}}") for text in texts for gold in ("0", "3", call)])
    assert len(graded) == 3 * len(texts)
    assert not any(
        item.reward for item, gold in zip(graded, ["0", "3", call] * len(texts), strict=True) if gold != call
    )
    assert list(tmp_path.iterdir()) == []


def test_a_worker_killed_as_it_starts_costs_nothing() -> None:
    with Grader(workers=1) as grader:

        def kill_the_first() -> None:
            while not grader.worker_pids:
                time.sleep(0.001)
            os.kill(grader.worker_pids[0], signal.SIGKILL)

        thread = threading.Thread(target=kill_the_first)
        thread.start()
        graded = grader.grade_many([("x+1", r"\boxed{1+x}"), ("x+2", r"\boxed{2+x}")])
        thread.join()
    assert [item.verdict for item in graded] == [Verdict.CORRECT] * 2


def test_a_worker_killed_at_each_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "wait_until_ready", lambda _: False)
    with Grader(workers=1) as grader:
        killed = grader.grade(*SYMBOLIC)
    assert (killed.verdict, killed.reason) == (Verdict.TIMED_OUT, "the grading worker was killed as it started")


def test_verdicts_beside_busy_processes_are_those_of_a_quiet_machine() -> None:
    asked = busy.pairs(42)[len(busy.HARD) :]
    quiet = busy.verdicts(asked, "left alone")
    with busy.busy(6):
        loaded = busy.verdicts(asked, "beside 6")
    assert [item.verdict for item in loaded] == [item.verdict for item in quiet]
    assert {item.verdict for item in quiet} == {Verdict.CORRECT, Verdict.WRONG}


@pytest.mark.slow
@pytest.mark.skipif(not SCORING_CASES.exists(), reason="the shared scoring cases are not on this machine")
def test_every_scoring_case_gets_its_verdict() -> None:
    cases = [json.loads(line) for line in SCORING_CASES.read_text().splitlines()]
    failed = []
    with Grader() as grader:
        grader.grade(*SYMBOLIC)
        for case in cases:
            graded = grader.grade(case["gold"], case["prediction"])
            if bool(graded.reward) != case["expected"] and "either verdict tolerated" not in case["note"]:
                failed.append((case, graded))
    assert failed == []
