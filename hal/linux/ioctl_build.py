"""The compiled part of `hal.linux`: constants and structures that only the kernel's own headers know for sure.

setup.py has it built at installation, by cffi in API mode: a C compiler reads <linux/…>, so that nothing is copied
from it by hand. It is optional there: a machine without a compiler or these headers gets everything else, and
`hal.linux.ioctl` says what is missing when somebody asks for it.

By hand, in place: `python setup.py build_ext --inplace`.
"""

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    int rap_ioctl(int fd, unsigned long request, void *argument);

    #define WDIOC_GETBOOTSTATUS ...
    #define WDIOC_SETOPTIONS ...
    #define WDIOC_KEEPALIVE ...
    #define WDIOC_SETTIMEOUT ...
    #define WDIOF_CARDRESET ...
    #define WDIOS_DISABLECARD ...

    #define SWITCH_BYTES ...
    #define EVIOCGSW_ALL ...
""")
ffi.set_source(
    "hal.linux._ioctl",
    """
    #include <sys/ioctl.h>
    #include <linux/input.h>
    #include <linux/watchdog.h>

    /* whole longs, in which the kernel keeps its bits (drivers/input/evdev.c, bits_to_user) */
    #define SWITCH_BYTES (((SW_MAX) / (8 * sizeof(long)) + 1) * sizeof(long))
    #define EVIOCGSW_ALL EVIOCGSW(SWITCH_BYTES)

    static int rap_ioctl(int fd, unsigned long request, void *argument) { return ioctl(fd, request, argument); }
    """,
    optional=True,  # setuptools: a failure to compile is a warning
)
