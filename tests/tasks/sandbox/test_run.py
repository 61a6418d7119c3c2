"""Programs that try to get out, to stay, to use up the machine, or to be taken for right ones."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autodeco.errors import SandboxError
from autodeco.tasks.sandbox import UNCONFINED_VARIABLE, Limits, confine, run, run_python

pytestmark = pytest.mark.skipif(confine.supported() is not None, reason=f"no sandbox here: {confine.supported()}")

needs_landlock = pytest.mark.skipif(not confine.landlock_abi(), reason="the kernel has no Landlock")
IGNORE_SIGNALS = """
import signal
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
"""
FAST = Limits(seconds=5, cpu_seconds=2, memory_bytes=256 << 20)


def _run(source, **kwargs):
    return run_python(textwrap.dedent(source), **{"limits": FAST, **kwargs})


def _refused(outcome):
    return outcome.status == "raised" and outcome.error.split(":")[0] in ("PermissionError", "OSError")


def test_a_good_program_completes():
    outcome = _run("import math, random, decimal\nprint(math.factorial(5))\nassert True")
    assert (outcome.status, outcome.stdout, outcome.error, outcome.returncode) == ("completed", "120\n", None, 0)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("f = 1\nf()", "TypeError"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit"),
        ("exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(BaseException):\n    def __str__(self): raise E\nraise E", "an exception that cannot be shown"),
        ("def f(): f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
    ],
)
def test_what_a_program_raises_is_told(source, error):
    outcome = _run(source)
    assert outcome.status == "raised"
    assert outcome.error.startswith(error)


@pytest.mark.parametrize(
    "source",
    [
        "import os; os._exit(0)",
        "import os; os.write(1, b'passed\\n'); os._exit(0)",
        'print(\'{"done": "passed"}\', flush=True)\nimport os; os._exit(0)',
        # The channel of results, with a guess of what is expected.
        'import os, json\nfor fd in range(3, 20):\n    try: os.write(fd, b\'{"done": "0"}\\n\')\n'
        "    except OSError: pass\nos._exit(0)",
        # Everything that the harness might call, replaced before it does.
        "import os, sys, json\nos.read = os.write = json.dumps = lambda *a: b''\nos._exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\nsys = __import__('sys')\nsys.exit(0)",
        "import builtins\nbuiltins.AssertionError = Exception\nassert False",
        "import sys\nsys.excepthook = lambda *a: None\nraise ValueError",
        "import threading, os\nthreading.Thread(target=lambda: os._exit(0)).start()\nwhile True: pass",
        "import ctypes\nctypes.string_at(0)",
    ],
)
def test_only_a_program_that_ran_to_its_end_is_complete(source):
    assert _run(source + "\nassert False").status in ("exited", "raised", "killed")


def test_a_replaced_standard_library_does_not_hide_a_failure_or_a_success():
    patch = "import os, json, sys\nos.read = os.write = os._exit = json.dumps = sys.exit = print = None\n"
    assert _run(patch + "assert True").status == "completed"
    assert _run(patch + "assert False").status == "raised"


def test_scripts_may_exit():
    outcome = _run("if __name__ == '__main__':\n    print(input())\n    exit()", as_script=True, stdin="word\n")
    assert (outcome.status, outcome.stdout) == ("completed", "word\n")
    assert _run("if __name__ == '__main__': 1 / 0").status == "completed"


def test_functions_are_called():
    outcome = _run("def f(a, b): return a + b", function="f", calls=[[1, 2], ["x", "y"], [[1], [2]]])
    assert (outcome.status, outcome.values) == ("completed", [3, "xy", [1, 2]])
    solution = "class Solution:\n    def f(self, n): return (n, (n,))"
    assert _run(solution, function="f", calls=[[1]]).values == [[1, {"tuple": [1]}]]
    assert "NameError" in _run("g = 1", function="f", calls=[[1]]).error
    late = _run("def f(n):\n    while n: pass", function="f", calls=[[0], [1]], limits=Limits(call_seconds=0.2))
    assert (late.values, late.error) == ([None], "TimeoutError: a call took more than 0.2 s")


@pytest.mark.parametrize(
    ("source", "statuses"),
    [
        ("while True: pass", ["killed", "timed_out"]),
        ("import time; time.sleep(60)", ["timed_out"]),
        (IGNORE_SIGNALS + "while True: pass", ["killed", "timed_out"]),
        ("try:\n    while True: pass\nexcept BaseException: pass\nwhile True: pass", ["killed", "timed_out"]),
        ("x = 'a' * 10**10", ["raised"]),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", ["raised", "killed"]),
        ("while True: print('x' * 1000)", ["too_much_output"]),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", ["too_much_output"]),
        ("import os, time\nos.close(1); os.close(2); time.sleep(60)", ["timed_out"]),
    ],
)  # fmt: skip
def test_limits(source, statuses):
    started = time.monotonic()
    outcome = _run(source, limits=Limits(seconds=2, cpu_seconds=1, memory_bytes=256 << 20))
    assert outcome.status in statuses
    assert len(outcome.stdout) <= 1 << 20
    assert time.monotonic() - started < 30


def test_huge_files():
    if not confine.folder_is_writable():
        pytest.skip("this kernel lets no folder be written")
    one = _run("f = open('x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))")
    assert one.status in ("raised", "killed")
    many = _run(
        "import time\nfor i in range(60):\n    open(str(i), 'wb').write(b'x' * (1 << 20))\ntime.sleep(5)",
        limits=Limits(seconds=4),
    )
    assert many.status == "too_many_files"


def test_room_on_disk_that_no_size_shows_cannot_be_taken():
    allocate = "import ctypes\nctypes.CDLL(None, use_errno=True).fallocate(file.fileno(), 1, 0, 100 << 20)"
    outcome = _run(f"file = open('x', 'wb')\n{allocate}\nimport os\nprint(os.stat('x').st_blocks)")
    assert (outcome.status, outcome.stdout) == ("completed", "0\n")


@pytest.mark.parametrize(("depth", "status"), [(1200, "completed"), (5000, "too_many_files")])
def test_folders_nested_deeply_are_thrown_away_as_well(depth, status):
    before = set(Path(tempfile.gettempdir()).glob("autodeco-sandbox-*"))
    nest = f"import os, time\nfor _ in range({depth}):\n    os.mkdir('a'); os.chdir('a')\ntime.sleep(0.5)"
    assert _run(nest, limits=Limits(seconds=9)).status == status
    assert set(Path(tempfile.gettempdir()).glob("autodeco-sandbox-*")) <= before


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.fork()",
        "import os\nwhile True:\n    try: os.fork()\n    except MemoryError: pass",
        "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {})",
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'])",
        "import os\nassert os.system('true') != 0\nraise PermissionError",
        "import os\nos.execv('/bin/sh', ['sh'])",
        "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
    ],
)
def test_no_other_process_can_be_started(source):
    assert _refused(_run(source))


def test_no_daemon_survives(tmp_path):
    flag = tmp_path / "alive"
    outcome = _run(f"""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1)
                open({str(flag)!r}, "w").write("alive")
    """)
    assert _refused(outcome)
    time.sleep(1.5)
    assert not flag.exists()


def test_threads_are_allowed_and_bounded():
    assert _run("import threading\nt = threading.Thread(target=print)\nt.start(); t.join()").status == "completed"
    bomb = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()"
    assert _run(bomb, limits=Limits(seconds=3, memory_bytes=256 << 20)).status in ("raised", "killed", "timed_out")


@needs_landlock
@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/1/cmdline", "/root/.bashrc", "/dev/tty"]
)
def test_files_of_the_machine_cannot_be_read(path):
    assert _run(f"open({path!r}, 'rb').read()").error.startswith(("PermissionError", "FileNotFoundError"))


@needs_landlock
def test_a_secret_file_cannot_be_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    escape = f"import os\nos.symlink({str(secret)!r}, 'link')\nprint(open('link').read())"
    for source in (f"print(open({str(secret)!r}).read())", f"import os\nos.listdir({str(tmp_path)!r})", escape):
        outcome = _run(source)
        assert outcome.error.startswith("PermissionError")
        assert "hunter2" not in outcome.stdout + outcome.stderr
    assert secret.read_text() == "hunter2"
    parent = _run(f"print(open('/proc/{os.getpid()}/environ').read())")
    assert parent.error.startswith("PermissionError")


def test_nothing_outside_the_folder_can_be_written(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("here")
    before = victim.stat()
    path = repr(str(victim))
    for source in (
        f"open({path}, 'w').write('gone')",
        f"open({path}, 'a').write('gone')",
        f"import os; os.unlink({path})",
        f"import os; os.truncate({path}, 0)",
        f"import os; os.open({path}, os.O_RDONLY | os.O_TRUNC)",
        f"import os; os.rename({path}, 'mine')",
        f"import os; os.link({path}, 'mine')",
        f"import os; os.chmod({path}, 0o777)",
        f"import os; os.chown({path}, 1, 1)",
        f"import os; os.utime({path}, (0, 0))",
        f"import os; os.setxattr({path}, 'user.x', b'1')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import os; os.mkdir({str(tmp_path / 'new')!r})",
        f"import os; os.mkfifo({str(tmp_path / 'new')!r})",
        f"import os; os.symlink('/', {str(tmp_path / 'new')!r})",
        "open('../new', 'w')",
        "open('/dev/shm/autodeco-test', 'w')",
    ):
        assert _refused(_run(source)), source
    after = victim.stat()
    assert victim.read_text() == "here"
    assert (after.st_mode, after.st_mtime, after.st_uid) == (before.st_mode, before.st_mtime, before.st_uid)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


def test_the_throw_away_folder_is_thrown_away():
    outcome = _run("import os\nopen('x', 'w').write('y')\nprint(os.getcwd(), open('x').read())")
    if not confine.folder_is_writable():
        pytest.skip("this kernel lets no folder be written")
    folder, content = outcome.stdout.split()
    assert content == "y"
    assert not Path(folder).exists()


def test_no_socket_can_be_opened():
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"):
        for kind in ("SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"):
            assert _refused(_run(f"import socket\nsocket.socket(socket.{family}, socket.{kind})"))
    assert _refused(_run("import socket\nsocket.socketpair()"))
    assert "Error" in _run("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')").error


def test_a_local_listener_is_not_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        assert _refused(_run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"))
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "source",
    [
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
        "import os, signal\nos.killpg(os.getpgid(os.getppid()), 9)",
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
        "import os\nos.kill(-1, 9)",
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "import os\nos.sched_setaffinity(os.getppid(), {0})",
        "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nraise OSError",
    ],
)
def test_other_processes_cannot_be_touched(source):
    outcome = _run(source)
    assert _refused(outcome) or outcome.error.startswith("ValueError")  # setrlimit's way to say it


@pytest.mark.parametrize(
    ("number_x86", "number_arm", "arguments"),
    [
        (101, 117, "16, os.getppid(), 0, 0"),  # ptrace(PTRACE_ATTACH)
        (310, 270, "os.getppid(), 0, 0, 0, 0, 0"),  # process_vm_readv
        (165, 40, "b'a', b'/', b'tmpfs', 0, 0"),  # mount
        (272, 97, "0x10000000"),  # unshare(CLONE_NEWUSER)
        (105, 146, "0"),  # setuid
        (319, 279, "b'x', 0"),  # memfd_create
        (321, 280, "0, 0, 0"),  # bpf
        (425, 425, "1, 0"),  # io_uring_setup
        (157, 167, "1, 0, 0, 0, 0"),  # prctl(PR_SET_PDEATHSIG, none)
        (56, 220, "17, 0, 0, 0, 0"),  # clone(SIGCHLD), a fork
        (435, 435, "0, 0"),  # clone3
        (169, 142, "0, 0, 0"),  # reboot, with wrong magic numbers
    ],
)
def test_dangerous_calls_are_refused(number_x86, number_arm, arguments):
    outcome = _run(f"""
        import ctypes, os, platform
        libc = ctypes.CDLL(None, use_errno=True)
        number = {number_x86} if platform.machine() == "x86_64" else {number_arm}
        assert libc.syscall(number, {arguments}) == -1
        print(ctypes.get_errno())
    """)
    assert outcome.status == "completed"
    assert int(outcome.stdout) in (1, 38)  # EPERM, ENOSYS


def test_nothing_of_our_environment_is_there(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "hunter2")
    outcome = _run("import os, sys\nprint(dict(os.environ), sys.argv)\nprint(sorted(os.listdir('.')))")
    assert "hunter2" not in outcome.stdout
    assert "KEY" not in outcome.stdout


def test_results_are_the_same_every_time():
    assert len({_run("print(list({'a', 'b', 'c', 'd', 'e'}))").stdout for _ in range(3)}) == 1


def test_it_dies_with_us(tmp_path):
    """Our own process is killed in the middle of a run: the program must not go on."""
    script = tmp_path / "parent.py"
    script.write_text(
        "from autodeco.tasks.sandbox import Limits, run_python\n"
        "run_python('import os, time\\nprint(os.getpid(), flush=True)\\nwhile True: time.sleep(0.1)',"
        " limits=Limits(seconds=60))\n"
    )
    with subprocess.Popen([sys.executable, str(script)]) as parent:
        child = _wait_for_child(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _wait_for_child(parent):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in task.read_text().split():
                if b"child.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    time.sleep(0.3)
                    return int(child)
        time.sleep(0.05)
    raise AssertionError("the sandboxed process did not start")


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_many_at_once_from_threads():
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda n: _run(f"print({n})"), range(12)))
    assert [outcome.stdout for outcome in outcomes] == [f"{n}\n" for n in range(12)]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_it_at_once():
    timer = threading.Timer(1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        _run("import time; time.sleep(60)", limits=Limits(seconds=60))
    timer.join()


def test_elsewhere_it_refuses_unless_allowed(monkeypatch):
    monkeypatch.setattr(run, "unsupported", lambda: "the system is Plan 9")
    monkeypatch.delenv(UNCONFINED_VARIABLE, raising=False)
    with pytest.raises(SandboxError, match=f"the system is Plan 9.*{UNCONFINED_VARIABLE}=1"):
        run_python("print(1)")
    monkeypatch.setenv(UNCONFINED_VARIABLE, "1")
    assert run_python("import os\nprint(os.getppid() > 0)").stdout == "True\n"


def test_a_kernel_that_refuses_is_an_error_not_a_wrong_answer(monkeypatch):
    monkeypatch.setattr(run, "readable_paths", lambda: [1])  # what the child cannot use
    with pytest.raises(SandboxError, match="refuses to confine"):
        run_python("print(1)")


@pytest.mark.parametrize("machine", [0, 1])
@pytest.mark.parametrize("may_write", [True, False])
def test_the_filter_is_well_formed(machine, may_write):
    """Every jump lands inside the program, which ends in an answer: what the kernel checks, for either machine."""
    program = confine._program(machine, may_write)
    code = list(struct.iter_unpack("HBBI", program))
    assert len(code) < 4096
    for index, (operation, if_true, if_false, _) in enumerate(code):
        if operation in (0x15, 0x35, 0x45):
            assert index + 1 + max(if_true, if_false) < len(code)
    assert code[-1] == (0x06, 0, 0, 0x7FFF0000)


def test_without_landlock_nothing_can_be_written(tmp_path):
    """The filter alone, as on a kernel without Landlock (in a process of its own)."""
    source = textwrap.dedent("""
        import os, sys
        from autodeco.tasks.sandbox import confine
        os.chdir(sys.argv[1])
        confine.landlock_abi = lambda: 0
        confine.confine([], None)
        open(os.devnull).close()
        for attempt in (lambda: open("x", "w"), lambda: os.mkdir("y"), lambda: os.open("x", os.O_CREAT),
                        lambda: os.fork(), lambda: os.rename("x", "z")):
            try:
                attempt()
            except PermissionError:
                print("refused")
    """)
    command = [sys.executable, "-c", source, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused\n" * 5
