"""Takes rights away from the calling process for good: Landlock, seccomp, capabilities, resource limits. Linux only.

Stands alone (standard library only, nothing of autodeco), because the sandboxed process loads it by its path. It is for
processes of one thread, cannot be undone by them, and works for root and for ordinary users.

Sources: Linux ``Documentation/userspace-api/{landlock,seccomp_filter,no_new_privs}.rst``, ``man 2 capset``; system-call
numbers from ``asm/unistd_64.h`` (x86-64) and ``asm-generic/unistd.h`` (AArch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_CLONE_THREAD = 0x00010000
_WRITING_OPEN_FLAGS = 0o3 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC (the same on both machines)
_MACHINES = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_X32_BIT = 0x40000000
_CAPSET = (126, 91)
_LAST_KNOWN_CALL = 450  # calls that came later (file attributes, mounts, ...) are refused as if the kernel were older
_CLONE, _PRCTL, _PRLIMIT, _OPENAT, _OPEN = (56, 220), (157, 167), (302, 261), (257, 56), (2, None)

# (x86-64, AArch64). Refused: other processes and how they run, sockets, and whatever reaches past files and memory.
_REFUSED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30), "setrlimit": (160, 164),
    "setpgid": (109, 154),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),  # memory that RLIMIT_AS does not count
    "perf_event_open": (298, 241), "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "fanotify_init": (300, 262), "syslog": (103, 116), "acct": (163, 89),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "uselib": (134, None), "personality": (135, 92), "vhangup": (153, 58),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": _CAPSET, "seccomp": (317, 277),
    # Changes to files that Landlock does not see.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None),
    "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None), "mknod": (133, None),
    "mknodat": (259, 33), "truncate": (76, 45),
    "fallocate": (285, 47),  # room on disk that no file's size shows
}  # fmt: skip
# Refused as well where Landlock cannot keep writing inside one folder.
_PATH_CHANGES = {
    "creat": (85, None), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, None),
    "unlinkat": (263, 35), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
}  # fmt: skip
_AS_IF_UNKNOWN = {
    "clone3": (435, 435),
    "openat2": (437, 437),
}  # pointers, which a filter cannot follow; libc has others

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
_REMOVE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = (1 << 4) | (1 << 5), 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
# The first version whose rights cover truncation: before it, keeping writes inside a folder is not possible.
_WRITABLE_FROM_ABI = 3

_libc = ctypes.CDLL(None, use_errno=True)


def supported() -> str | None:
    """Why this machine cannot confine a process, or ``None`` if it can."""
    if platform.system() != "Linux":
        return f"the system is {platform.system()}, and seccomp and Landlock are Linux's"
    if platform.machine() not in _MACHINES:
        return f"the processor is {platform.machine()}, and the filter is written for {' and '.join(_MACHINES)}"
    if struct.calcsize("P") != 8:
        return "this Python is a 32-bit program, and the filter is written for 64-bit ones"
    return None


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 if it has none or it is switched off."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, 0, 1)))


def folder_is_writable() -> bool:
    """Whether a confined process can be given one folder to write in; otherwise it cannot write at all."""
    return landlock_abi() >= _WRITABLE_FROM_ABI


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it ends, however it ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def limit_resources(memory: int, cpu_seconds: int, file_bytes: int) -> None:
    """Sets hard limits: bytes of address space, CPU time, bytes of one file; 64 open files, no core dump."""
    for name, value in (
        *([(resource.RLIMIT_AS, memory)] if platform.system() == "Linux" else []),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def confine(readable: Sequence[str], writable: str | None) -> None:
    """Leaves files under ``readable`` to read, at most one folder to write, one process, no network and no privileges.

    Raises:
        OSError: the kernel refuses; the process may then be confined in part and should end.
    """
    machine = _MACHINES[platform.machine()]
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    nothing = struct.pack("6I", *[0] * 6)
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(_libc.syscall(_CAPSET[machine], header, nothing), "capset")
    abi = landlock_abi()
    if abi:
        _restrict_paths(abi, readable, writable)
    _install(_program(machine, may_write=abi >= _WRITABLE_FROM_ABI))


def _restrict_paths(abi: int, readable: Sequence[str], writable: str | None) -> None:
    handled = (
        _FIRST_RIGHTS | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    )
    tcp = 0b11 if abi >= 4 else 0  # bind and connect
    scopes = 0b11 if abi >= 6 else 0  # abstract unix sockets and signals
    rules = struct.pack("QQQ", handled, tcp, scopes)
    ruleset = _checked(_libc.syscall(_LANDLOCK_CREATE, rules, len(rules), 0), "landlock_create_ruleset")
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    _allow(ruleset, "/dev/null", _READ_FILE | _WRITE_FILE)
    if writable is not None and abi >= _WRITABLE_FROM_ABI:
        own = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _TRUNCATE
        _allow(ruleset, writable, own)
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    if not os.path.isdir(path):  # noqa: PTH112 - pathlib would be one more import in every sandboxed process
        rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE
    rule = struct.pack("=Qi", rights, handle)
    _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock_add_rule({path})")
    os.close(handle)


def _program(machine: int, may_write: bool) -> bytes:
    """The seccomp filter in classic BPF: one (code, jump if true, jump if false, operand) an instruction."""
    load, equal, at_least, any_bit, end = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    refuse, unknown = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    argument = [16 + 8 * i for i in range(6)]  # low words in struct seccomp_data, little-endian
    code: list[tuple[int, int, int, int]] = [(load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH[machine]), (end, 0, 0, kill)]
    code += [(load, 0, 0, 0), (at_least, 0, 1, _X32_BIT), (end, 0, 0, kill)]
    code += [(at_least, 0, 1, _LAST_KNOWN_CALL + 1), (end, 0, 0, unknown)]
    refused = _REFUSED if may_write else {**_REFUSED, **_PATH_CHANGES}
    for calls, answer in ((_AS_IF_UNKNOWN, unknown), (refused, refuse)):
        for numbers in calls.values():
            if numbers[machine] is not None:
                code += [(equal, 0, 1, numbers[machine]), (end, 0, 0, answer)]  # type: ignore[list-item]

    def decide(number: int, operand: int, test: tuple[int, int], if_true: int, if_false: int) -> None:
        body = [(load, 0, 0, operand), (test[0], 0, 1, test[1]), (end, 0, 0, if_true), (end, 0, 0, if_false)]
        code.extend([(equal, 0, len(body), number), *body])

    decide(_CLONE[machine], argument[0], (any_bit, _CLONE_THREAD), allow, refuse)
    decide(_PRCTL[machine], argument[0], (equal, _PR_SET_PDEATHSIG), refuse, allow)
    decide(_PRLIMIT[machine], argument[0], (equal, 0), allow, refuse)  # of itself only
    if not may_write:
        decide(_OPENAT[machine], argument[2], (any_bit, _WRITING_OPEN_FLAGS), refuse, allow)
        if _OPEN[machine] is not None:
            decide(_OPEN[machine], argument[1], (any_bit, _WRITING_OPEN_FLAGS), refuse, allow)  # type: ignore[arg-type]
    code.append((end, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _install(program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0), "prctl(PR_SET_SECCOMP)")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
