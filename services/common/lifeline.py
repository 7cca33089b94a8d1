"""No service outlives its supervisor, not even one that was killed with SIGKILL and could tell nobody."""

import ctypes
import os
import signal
import sys

SUPERVISOR_VARIABLE = "BAZAAR_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1  # see prctl(2)


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when the supervisor that started it is gone.

    Does nothing without BAZAAR_SUPERVISOR_PID. The signal comes when the *thread* that started this process ends, so a
    supervisor starts its services from its main thread.
    """
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # It may have died before the kernel was told.
    if os.getppid() != int(supervisor):
        raise SystemExit(f"the supervisor, process {supervisor}, is gone")
