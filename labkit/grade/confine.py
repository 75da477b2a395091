"""What the kernel holds a sandbox to, beside namespaces: system calls, memory and processes together, user ids.

Guaranteed: `filter_program` denies the system calls by which a program could reach keys, memory that no limit counts,
or kernel interfaces that no solution needs. `Group` counts the memory (files in /tmp and the kernel's own for them
included) and the tasks of all processes of a sandbox together. `UserIds` are used by no other sandbox of this machine.

Left open: on processors other than x86-64 and aarch64 there is no filter. Where no control group can be made (no
root, no delegated subtree, a container that mounts them read-only) `Group` holds nothing, and says so.
"""

import contextlib
import itertools
import os
import platform
import random
import re
import socket
import struct
import time
from pathlib import Path

from labkit.errors import BadRequest

# System calls by number: (x86-64, aarch64). Without clone3 glibc falls back to clone, whose flags can be read.
DENIED = {
    "add_key": (248, 217), "request_key": (249, 218), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "semget": (64, 190), "semctl": (66, 191), "msgget": (68, 186), "msgctl": (71, 187), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "bpf": (321, 280), "perf_event_open": (298, 241),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "fsopen": (430, 430), "fsmount": (432, 432), "open_tree": (428, 428), "move_mount": (429, 429), "chroot": (161, 51),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "syslog": (103, 116), "acct": (163, 89), "kexec_load": (246, 104), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "clone3": (435, 435),
}  # fmt: skip
SOCKET, CLONE, KEYCTL = (41, 198), (56, 220), (250, 219)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables, AUDIT_ARCH
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
NAMESPACES = 0x7E020080  # CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF

FIRST_UID, USERS = 61_000, 4_000  # where the host's user is root: one pair per sandbox, for solutions and judges
LIMIT_FILES = {  # by version of control groups
    2: {"memory": "memory.max", "pids": "pids.max"}, 1: {"memory": "memory.limit_in_bytes", "pids": "pids.max"},
}  # fmt: skip


def filter_program() -> bytes:
    """The seccomp filter for `bwrap --seccomp`; empty for a processor whose numbers are not known."""
    if platform.machine() not in MACHINES:
        return b""
    column, architecture = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, ERRNO | ENOSYS), (LOAD, 0, 0, 0)]
    if column == 0:  # the calls of x32 have numbers of their own
        program += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, ERRNO | ENOSYS)]
    for numbers in DENIED.values():
        program += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERRNO | ENOSYS)]
    families = [(EQUAL, len(FAMILIES) - index, 0, family) for index, family in enumerate(FAMILIES)]
    program += _call(SOCKET[column], [(LOAD, 0, 0, 16), *families, (RETURN, 0, 0, ERRNO | EAFNOSUPPORT)])
    program += _call(CLONE[column], [(LOAD, 0, 0, 16), (ANY_BIT, 0, 1, NAMESPACES), (RETURN, 0, 0, ERRNO | EPERM)])
    # KEYCTL_JOIN_SESSION_KEYRING without a name: an empty ring, which is how the server gives up its starter's.
    fresh = [(LOAD, 0, 0, 16), (EQUAL, 0, 4, 1), (LOAD, 0, 0, 24), (EQUAL, 0, 2, 0), (LOAD, 0, 0, 28), (EQUAL, 1, 0, 0)]
    program += _call(KEYCTL[column], [*fresh, (RETURN, 0, 0, ERRNO | EPERM)])
    return b"".join(struct.pack("HBBI", *step) for step in [*program, (RETURN, 0, 0, ALLOW)])


def _call(number: int, steps: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`steps` for one system call; what falls through them is allowed."""
    return [(EQUAL, 0, len(steps) + 1, number), *steps, (RETURN, 0, 0, ALLOW)]


class UserIds:
    """Two user ids that no other sandbox of this machine has: limits on processes are counted by user.

    An abstract socket is the lock: it needs no file, and is free again as soon as its process is gone.
    """

    def __init__(self) -> None:
        start = random.SystemRandom().randrange(USERS // 2)  # containers share users, not sockets
        for step in range(USERS // 2):
            first = FIRST_UID + 2 * ((start + step) % (USERS // 2))
            self.pair, self.lock = [first, first + 1], socket.socket(socket.AF_UNIX)
            try:
                return self.lock.bind(f"\0labkit-users-{first}")
            except OSError:
                self.lock.close()
        raise BadRequest(f"no free users for a sandbox: all of {FIRST_UID} to {FIRST_UID + USERS} are taken")

    def close(self) -> None:
        self.lock.close()


class Group:
    """A control group (version 1 or 2) with limits on memory and tasks; `version` is 0 where none can be made."""

    _count = itertools.count()

    def __init__(self, memory_bytes: int, tasks: int) -> None:
        name, limits = f"labkit-{os.getpid()}-{next(Group._count)}", {"memory": memory_bytes, "pids": tasks}
        for version, parents in _places():
            self.version, self.folders = version, {kind: Path(parent, name) for kind, parent in parents.items()}
            with contextlib.suppress(OSError):
                for kind, folder in self.folders.items():
                    _sweep(folder.parent)
                    folder.mkdir(exist_ok=True)
                    (folder / LIMIT_FILES[version][kind]).write_text(str(limits[kind]))
                return
            self.close()
        self.version, self.folders = 0, {}

    def entering(self, command: list[str]) -> list[str]:
        """`command`, started by a shell that joins the group first, so that nothing of it is outside."""
        files = [str(folder / "cgroup.procs") for folder in dict.fromkeys(self.folders.values())]
        join = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done; shift; exec "$@"'
        return ["/bin/sh", "-c", join, "sh", *files, "--", *command] if files else command

    def killed(self) -> int:
        """How many processes ended because the group was out of memory."""
        files = {2: "memory.events", 1: "memory.oom_control"}
        if not self.version:
            return 0
        counts = re.search(r"^oom_kill (\d+)", (self.folders["memory"] / files[self.version]).read_text(), re.MULTILINE)
        return int(counts[1]) if counts else 0

    def close(self) -> None:
        """Remove it, when its last process is gone."""
        for folder in dict.fromkeys(self.folders.values()):
            for _ in range(100):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.01)


def _places() -> list[tuple[int, dict[str, Path]]]:
    """(version, folder by controller) where a group may be made: below this process' own groups, or beside them."""
    try:
        own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return []
    folders: dict[str, Path] = {}
    for _, names, path in own:
        for mount in mounts:
            kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
            if kind == ("cgroup" if names else "cgroup2") and (not names or set(names.split(",")) <= set(options)):
                # A group of another name space is shown from its own root.
                inner = path if mount[3] == "/" else os.path.relpath(path, mount[3])
                folders |= {name: Path(mount[4], inner.lstrip("/")) for name in names.split(",")}
    parents = [at for at in (folders[""], folders[""].parent) if _delegated(at)] if "" in folders else []
    places = [(2, dict.fromkeys(LIMIT_FILES[2], at)) for at in parents]
    if set(LIMIT_FILES[1]) <= set(folders):
        places.append((1, {kind: folders[kind] for kind in LIMIT_FILES[1]}))
    return places


def _delegated(folder: Path) -> bool:
    """May groups below `folder` (version 2) have limits on memory and tasks?"""
    switch = folder / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        if not {"memory", "pids"} <= set(switch.read_text().split()):
            switch.write_text("+memory +pids")
        return True
    return False


def _sweep(folder: Path) -> None:
    """Remove the empty groups of processes that were killed."""
    for left in folder.glob("labkit-*-*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if not Path("/proc", left.name.split("-")[1]).exists():
                left.rmdir()
