"""Watching, restarting and stopping programs, with real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from definable.launcher.process import LOG_LIMIT, Process, birth, stop_leftovers
from definable.launcher.supervisor import Life, Supervisor

SLEEPS = ["sleep", "60"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)",
]


def eventually(true: Callable[[], object], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not (is_so := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(is_so)


def test_a_process_keeps_its_output_and_says_how_it_ended(tmp_path):
    process = Process("hello", ["sh", "-c", "echo hello; echo goodbye >&2; exit 3"], state=tmp_path)
    process.start()

    assert eventually(lambda: not process.alive())
    assert process.ending() == "ended with status 3"
    assert process.log.read_text() == "hello\ngoodbye\n"
    assert process.last_words() == "goodbye"


def test_stopping_waits_for_a_polite_end(tmp_path):
    process = Process("sleeper", SLEEPS, state=tmp_path)
    process.start()
    process.stop()

    assert not process.alive()
    assert process.ending() == "was killed by SIGTERM"
    assert not process.pid_file.exists()


def test_a_process_that_ignores_the_signal_is_killed_at_the_deadline(tmp_path):
    process = Process("stubborn", STUBBORN, state=tmp_path)
    process.start()
    assert eventually(lambda: process.log.read_text() == "on\n")

    process.stop(seconds=0.3)

    assert process.ending() == "was killed by SIGKILL"


def test_a_long_log_is_put_aside(tmp_path):
    process = Process("chatty", ["echo", "new"], state=tmp_path)
    process.log.parent.mkdir()
    process.log.write_bytes(b"x" * (LOG_LIMIT + 1))
    process.start()

    assert eventually(lambda: process.log.read_text() == "new\n")
    assert (tmp_path / "logs" / "chatty.log.1").stat().st_size == LOG_LIMIT + 1


def test_what_an_earlier_launcher_left_is_ended(tmp_path):
    earlier = Process("left", SLEEPS, state=tmp_path)
    earlier.start()

    stop_leftovers(tmp_path, ["left", "never-was"])

    assert not earlier.alive()


def test_a_stranger_that_got_the_number_of_a_dead_process_is_left_alone(tmp_path):
    stranger = Process("stranger", SLEEPS, state=tmp_path)
    stranger.start()
    (tmp_path / "pids" / "left").write_text(f"{stranger.pid} another-birth")

    stop_leftovers(tmp_path, ["left"])

    assert stranger.alive()
    stranger.stop()


def test_a_dead_process_that_nobody_collected_counts_as_dead():
    child = subprocess.Popen(["true"])
    assert eventually(lambda: birth(child.pid) is None)
    child.wait()


def test_children_end_when_their_launcher_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from definable.launcher.process import Process\n"
        "Process('child', ['sleep', '60'], state=Path(sys.argv[1])).start(); time.sleep(60)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    pid_file = tmp_path / "pids" / "child"
    assert eventually(lambda: pid_file.exists() and pid_file.read_text())
    child = int(pid_file.read_text().split()[0])

    launcher.kill()
    launcher.wait()
    stop_leftovers(tmp_path, ["child"])  # what the kernel does by itself on Linux

    assert eventually(lambda: birth(child) is None)


def test_a_service_that_dies_is_started_again(tmp_path):
    said: list[str] = []
    supervisor = Supervisor(said.append)
    process = Process("phoenix", SLEEPS, state=tmp_path)
    supervisor.add(process)
    first = process.pid
    os.kill(first, signal.SIGKILL)

    def born_again() -> bool:
        supervisor.tick()
        return process.alive() and process.pid != first

    assert eventually(born_again)
    assert said == ["phoenix was killed by SIGKILL; starting it again in 0.2 s."]
    supervisor.stop()
    assert not process.alive()


def test_a_service_that_dies_at_once_is_started_less_and_less_often(tmp_path):
    said: list[str] = []
    life = Life(Process("moth", ["false"], state=tmp_path))
    life.start()

    assert eventually(lambda: life.look_after(said.append) or len(said) == 3)
    assert [line.rpartition(" in ")[2] for line in said] == ["0.2 s.", "0.4 s.", "0.8 s."]


def test_programs_are_stopped_before_the_servers_they_need(tmp_path):
    ends: list[str] = []

    class Noted(Process):
        def wait_or_kill(self, deadline: float) -> None:
            super().wait_or_kill(deadline)
            ends.append(self.name)

    supervisor = Supervisor(lambda _text: None)
    supervisor.add_server(Noted("database", SLEEPS, state=tmp_path))
    supervisor.add(Noted("web", SLEEPS, state=tmp_path))
    supervisor.add(Noted("beat", SLEEPS, state=tmp_path))
    supervisor.stop()

    assert ends == ["beat", "web", "database"]


def test_nothing_is_stopped_by_a_ctrl_c_but_the_launcher(tmp_path):
    process = Process("sleeper", SLEEPS, state=tmp_path)
    process.start()

    assert os.getpgid(process.pid) != os.getpgid(0)
    process.stop()


def test_state_may_be_any_path(tmp_path):
    process = Process("hello", ["echo", "hello"], state=tmp_path / "a folder, with % in it")
    process.start()

    assert eventually(lambda: Path(process.log).read_text() == "hello\n")
