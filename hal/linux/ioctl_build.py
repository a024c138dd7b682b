"""Build script of the extension module of `hal.linux`: constants and structures from the kernel's own headers.

setup.py builds it at installation with cffi in API mode: a C compiler reads <linux/…>, so that no value is copied by
hand. It is optional: a machine without a compiler or these headers gets everything else, and `hal.linux.ioctl` says
what is missing when it is first used.

To build it in place: `python setup.py build_ext --inplace`.
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

    /* whole longs, as the kernel stores its bits (drivers/input/evdev.c, bits_to_user) */
    #define SWITCH_BYTES (((SW_MAX) / (8 * sizeof(long)) + 1) * sizeof(long))
    #define EVIOCGSW_ALL EVIOCGSW(SWITCH_BYTES)

    static int rap_ioctl(int fd, unsigned long request, void *argument) { return ioctl(fd, request, argument); }
    """,
    optional=True,  # setuptools: treat a compilation failure as a warning
)
