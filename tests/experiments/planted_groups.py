"""Groups that come to grief, for test_gpu.py: a module of its own, since each group's process imports it."""

import os
import signal
import subprocess
import time

from experiments.gpu.rows import Skipped


def works(rows, setting):
    rows.add("a number", 1.0)


def raises(rows, setting):
    rows.add("before", 2.0)
    raise RuntimeError("out of luck\nand out of words")


def dies(rows, setting):
    print("I was here", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(rows, setting):
    os._exit(7)


def hangs(rows, setting):
    subprocess.Popen(["sleep", "1000"])
    (setting.out / "pid").write_text(str(os.getpid()))
    time.sleep(1000)


def lacks(rows, setting):
    raise Skipped("there is none")
