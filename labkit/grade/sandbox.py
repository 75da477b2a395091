"""Programs that nobody has read are run, and graded, in a sandbox.

A program is a solution (untrusted) and its test (trusted). They run in two processes, so the verdict says what the
solution answered, not what it printed, returned to the shell or overrode: see `judge.py`, and `wire.py` for what
crosses between them.

Covered, with bubblewrap: no network; the system and Python read-only, and nothing else of the machine (no home, no
project, no /proc); a private /tmp of `TMP_BYTES`, wiped between programs; namespaces of their own for processes, IPC,
host name, mounts and, for a plain user, users; a cleared environment; no new privileges; an empty session key ring;
limits on CPU and wall time, memory, processes, file size, files, open files and output. On x86-64 and aarch64 system
calls are filtered (`confine.py`): no key rings, System V IPC, files in memory, new namespaces, sockets but local ones
and those of the private network, io_uring and the like. Where a control group can be made (`described` says so), the
memory of all processes, files and buffers of a sandbox is limited together: twice `memory_bytes`, /tmp and the server.
Started by root, solutions and judges become two users without capabilities, which no other sandbox of the machine has;
by a plain user, they share his, and the server and the judge cannot be traced. The solution never holds the test: it
cannot read the answers expected, and its own equality, built-ins, exits, threads, exit handlers, writes to any
descriptor and signals reach no verdict but its own "not passed". Programs of one sandbox run one after another; the
next starts when every process of the last is dead.

"unjudged" is neither passed nor failed: the test compares or computes with objects of the solution's own classes by
their own rules, or hands over what has no meaning in another process; the detail names it. A solution can bring it
about at will, so count it as not passed. Where the rules are the judge's, an answer is judged: an object of its own
class equals no plain data.

Not covered: bugs of the kernel, of Python's `json` and of bubblewrap; side channels (time, load); without a control
group the memory of all processes of a program together (up to processes x memory_bytes, and buffers of sockets and
pipes); a plain user's solution can end its own judge (a "crash"), and his limit on processes counts all that he runs.
The test sees answers only: a solution may answer by a table, and an object of its own classes may say of its truth,
attributes, items and methods what it likes. Differences from running test and solution in one process: only the
standard library can be imported (and `packages`); what one side changes in an argument after the call, or in a result,
the other does not see; a `StopIteration` of the solution is a ValueError; random seeds, patches and time of the test
are not the solution's (`input` and standard streams are); semaphores of `multiprocessing` are "unjudged".

Without bubblewrap (`unsafe`): the limits and the two processes alone. Files, network and other processes are open.
"""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from labkit.design.scratch import SCRATCH, tidy
from labkit.errors import BadRequest
from labkit.grade.confine import Group, UserIds, filter_program

OUTCOMES = ("passed", "failed", "timeout", "memory", "crash", "syntax", "unjudged")
SERVER, WIRE, REMOTE = (Path(__file__).with_name(name) for name in ("judge.py", "wire.py", "remote.py"))
GRACE = 30.0  # seconds beyond the wall limit after which a sandbox that says nothing is ended
TMP_BYTES = 64 << 20  # of its /tmp
SERVER_BYTES = 64 << 20  # what the server and bubblewrap take beside the programs


class Limits(NamedTuple):
    """What one program may use; memory, processes and file size are each process's own."""

    cpu_seconds: float = 10.0
    wall_seconds: float = 40.0  # wide, so that a busy machine does not fail a program within its CPU time
    memory_bytes: int = 1 << 30
    processes: int = 8
    file_bytes: int = 16 << 20
    output_bytes: int = 1 << 20


class Program(NamedTuple):
    """A solution (untrusted), a test (trusted), and the name that the solution must define.

    The test runs in another process than the solution. Names that it does not define are the solution's:
    functions are called there, objects stay there. `candidate` is the entry point.
    """

    solution: str
    test: str
    entry_point: str


class Verdict(NamedTuple):
    """`outcome` is one of `OUTCOMES` (only "passed" is passed), `detail` a line for people, `seconds` wall time."""

    outcome: str
    detail: str
    seconds: float


def run(programs: Sequence[Program], limits: Limits | None = None, **options: Any) -> list[Verdict]:
    """The verdict on every program, in their order; the options are those of `stream`."""
    return [verdict for _, verdict in sorted(stream(programs, limits, **options))]


def stream(programs: Sequence[Program], limits: Limits | None = None, *, workers: int | None = None,
           per_sandbox: int = 500, unsafe: bool = False,
           packages: Sequence[str] = ()) -> Iterator[tuple[int, Verdict]]:  # fmt: skip
    """(index, verdict) of every program as it is finished.

    `workers` sandboxes at a time (one per core), each for `per_sandbox` programs, one after another. The default suits
    what a model writes; 1 gives every program a sandbox of its own, for programs that may act together, and takes
    about ten times as long. `unsafe` runs without bubblewrap where that is missing. `packages` (folders beside the
    package of that name) can be imported, where they are installed.

    Raises `BadRequest` where there is no bubblewrap, or it cannot start, and `unsafe` is not set.
    """
    limits = limits or Limits()
    contained = available(unsafe)
    open_now: dict[int, Sandbox] = {}  # by thread: bubblewrap ends with the thread that started it

    def graded(program: Program) -> Verdict:
        thread = threading.get_ident()
        if thread in open_now and not open_now[thread].left:
            open_now.pop(thread).close()
        if thread not in open_now:
            open_now[thread] = Sandbox(limits, per_sandbox, contained, packages)
        return open_now[thread].grade(program, limits)

    pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)))
    try:
        numbers = {pool.submit(graded, program): number for number, program in enumerate(programs)}
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for sandbox in list(open_now.values()):
            sandbox.process.kill()  # whoever waits for its verdict need not wait any longer
        pool.shutdown()
        for sandbox in open_now.values():
            sandbox.close()


def available(unsafe: bool = False) -> bool:
    """Is there bubblewrap? `BadRequest` where there is not and `unsafe` is not set."""
    if shutil.which("bwrap"):
        return True
    if unsafe:
        return False
    how = "Debian and Ubuntu: apt-get install bubblewrap, Fedora: dnf install bubblewrap"
    raise BadRequest(f"programs are run in bubblewrap, which is not installed: install it ({how}), or confirm with "
                     "--confirm-unsafe to run them without")  # fmt: skip


def described(contained: bool) -> str:
    """What programs were run in, for a report."""
    if not contained:
        return "none: run without bubblewrap, as confirmed"
    version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    made = group(Limits())
    made.close()
    return f"{version}, {f'control groups {made.version}' if made.version else 'no control group: memory by process'}"


def bubblewrap(*binds: str) -> list[str]:
    """The command line of a sandbox with the system and Python, read-only; `binds` are more of its options."""
    python = Path(sys.base_prefix).resolve()
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"]
    # As root the server alone keeps these: to become other users, and to end and wipe what they leave.
    keeps = [f"CAP_{name}" for name in ("SETUID", "SETGID", "KILL", "DAC_OVERRIDE")] if os.geteuid() == 0 else []
    command += [part for cap in keeps for part in ("--cap-add", cap)] or ["--unshare-user"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "sbin"):
        linked = Path("/", name).is_symlink()
        command += ["--symlink", f"usr/{name}", f"/{name}"] if linked else ["--ro-bind-try", f"/{name}", f"/{name}"]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    if not python.is_relative_to("/usr"):  # where it lies in a home, what is above it must be open to other users
        for parent in reversed(python.parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(python), str(python)]
    command += ["--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*command, *binds, "--remount-ro", "/"]


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Where the folders of packages are, and where the sandbox has them."""
    place = importlib.util.find_spec(packages[0]) if packages else None
    folders = [Path(str(place.origin)).parents[1] / name for name in packages] if place else []
    return {str(folder.resolve()): f"/packages/{folder.name}" for folder in folders if folder.is_dir()}


def group(limits: Limits) -> Group:
    """A control group for one sandbox: a solution and its judge may each use what their limits allow, and no more."""
    return Group(2 * limits.memory_bytes + TMP_BYTES + SERVER_BYTES, 2 * limits.processes + 8)


class Sandbox:
    """A running server (see `judge.py`) that grades up to `programs` programs, one after another."""

    def __init__(self, limits: Limits, programs: int, contained: bool, packages: Sequence[str] = ()) -> None:
        self.left = programs
        self.folder = "/tmp" if contained else tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}.")
        tidy(Path(self.folder).parent)
        python = [os.path.realpath(sys.executable), "-s", "-P", "-S"]
        self.users = UserIds() if contained and os.geteuid() == 0 else None
        self.group = group(limits) if contained else None
        served = [*python, str(SERVER), self.folder, "among others"]
        if contained:
            shown = {str(file): f"/{file.name}" for file in (SERVER, WIRE, REMOTE)} | installed(packages)
            binds = [part for there, here in shown.items() for part in ("--ro-bind", there, here)]
            inside = bubblewrap("--perms", "0755", "--dir", "/packages", *binds)  # open to all users
            served = [*inside, "--as-pid-1", *python, "/judge.py", "/tmp", "alone"]
        served += [str(uid) for uid in self.users.pair] if self.users else []
        (self.control, its_control), (self.programs, its_programs) = Pipe(), Pipe()
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": self.folder, "TMPDIR": self.folder}
        # One hash seed for all: the order of a set, and with it a verdict, does not change between runs.
        environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONPATH": "/packages"} if packages else {}
        with its_control, its_programs, tempfile.TemporaryFile() as filtering:
            if contained and filtering.write(filter_program()):
                filtering.seek(0)
                served[1:1] = ["--seccomp", str(filtering.fileno())]
            self.process = subprocess.Popen(
                self.group.entering(served) if self.group else served, env=environment,
                stdin=its_programs.fileno(), stdout=its_control.fileno(), stderr=subprocess.PIPE,
                start_new_session=True, pass_fds=[filtering.fileno()] if "--seccomp" in served else [],
            )  # fmt: skip
        try:
            self.control.recv_bytes()
        except EOFError:
            raise BadRequest(f"the sandbox cannot start here: {self.close() or 'it ended at once'}") from None

    def grade(self, program: Program, limits: Limits) -> Verdict:
        """The verdict; afterwards `left` is 0 where this sandbox must not be used again."""
        try:
            killed = self.group.killed() if self.group else 0
            self.control.send_bytes(json.dumps(limits).encode())
            self.programs.send_bytes(json.dumps(program).encode())
            if not self.control.poll(limits.wall_seconds + GRACE):
                raise EOFError
            outcome, detail, seconds, clean = json.loads(self.control.recv_bytes())
        except (EOFError, OSError):
            outcome, detail, seconds, clean = "crash", "its sandbox ended", math.nan, False
        self.left = self.left - 1 if clean else 0
        if outcome != "passed" and self.group and self.group.killed() > killed:
            outcome, detail = "memory", "its processes and files took more memory than they may together"
        return Verdict(outcome, detail, seconds)

    def close(self) -> str:
        """End it; what it wrote to its standard error."""
        self.control.close()
        self.programs.close()
        self.process.kill()
        said = self.process.communicate()[1].decode(errors="replace").strip()
        if self.folder != "/tmp":
            shutil.rmtree(self.folder, ignore_errors=True)
        for held in (self.group, self.users):
            held.close() if held else None
        return said
