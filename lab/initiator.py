# SPDX-License-Identifier: Apache-2.0
"""A foreign iSCSI initiator that reserves a LUN as other systems do, through libiscsi, and keeps it until it is told to end.

    initiator.py PORTAL TARGET LUN register KEY | reserve TYPE KEY | reserve6

Says "held" when it has it. SIGTERM gives it back."""

import ctypes
import signal
import sys

NORMAL_SESSION, GOOD = 2, 0
RESERVE, RELEASE, REGISTER_ANYHOW = 1, 2, 6


class Parameters(ctypes.Structure):
    _fields_ = [("key", ctypes.c_uint64), ("action_key", ctypes.c_uint64), ("spec_i_pt", ctypes.c_uint8),
                ("all_tg_pt", ctypes.c_uint8), ("aptpl", ctypes.c_uint8)]


class Task(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int)]


class Initiator:
    def __init__(self, portal, target, lun):
        self.library = ctypes.CDLL("libiscsi.so.7")
        for function in ("iscsi_create_context", "iscsi_persistent_reserve_out_sync", "iscsi_reserve6_sync",
                         "iscsi_release6_sync"):
            getattr(self.library, function).restype = ctypes.c_void_p
        self.library.iscsi_get_error.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p(self.library.iscsi_create_context(b"iqn.2026-01.org.example:foreigner"))
        self.lun = lun
        self.library.iscsi_set_session_type(self.context, NORMAL_SESSION)
        self.library.iscsi_set_targetname(self.context, target.encode())
        if self.library.iscsi_full_connect_sync(self.context, portal.encode(), lun) != 0:
            sys.exit(f"{portal}: {self.library.iscsi_get_error(self.context)}")

    def must(self, doing, task):
        if not task or ctypes.cast(task, ctypes.POINTER(Task)).contents.status != GOOD:
            sys.exit(f"{doing}: {self.library.iscsi_get_error(self.context)}")

    def persistent(self, action, kind, key, action_key):
        parameters = Parameters(key, action_key)
        self.must(f"action {action}", self.library.iscsi_persistent_reserve_out_sync(self.context, self.lun, action, 0, kind,
                                                                                     ctypes.byref(parameters)))

    def old(self, action):
        self.must(action, getattr(self.library, f"iscsi_{action}6_sync")(self.context, self.lun))


def main(portal, target, lun, verb, *words):
    initiator = Initiator(portal, target, int(lun))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if verb == "reserve6":
        initiator.old("reserve")
    else:
        kind, key = (int(words[0]) if verb == "reserve" else 0), int(words[-1], 0)
        initiator.persistent(REGISTER_ANYHOW, 0, 0, key)
        if verb == "reserve":
            initiator.persistent(RESERVE, kind, key, 0)
    print("held", flush=True)
    signal.sigwait({signal.SIGTERM})
    if verb == "reserve6":
        initiator.old("release")
    else:
        if verb == "reserve":
            initiator.persistent(RELEASE, kind, key, 0)
        initiator.persistent(REGISTER_ANYHOW, 0, 0, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
