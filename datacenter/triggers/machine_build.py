"""Build script of the extension module of `datacenter.triggers`: machine.c, with cffi in API mode.

setup.py builds it at installation. It is optional: without a C compiler, triggers are evaluated in Python
(`datacenter/triggers/live.py`), which is slower.
"""

import re
from pathlib import Path

from cffi import FFI

SOURCE = Path(__file__).with_name("machine.c").read_text()
OPERATIONS = re.search(r"enum operation \{.*?\};", SOURCE, re.DOTALL)
assert OPERATIONS is not None

ffi = FFI()
ffi.cdef(
    OPERATIONS[0]
    + """
    #define LANES ...
    typedef struct { int32_t operation, to, a, b, c, d; } instruction;
    typedef struct {
        const instruction *code;
        int32_t count;
        int32_t now, exists;
        int32_t inputs;
        int64_t input_max;
        int32_t first_input, first_presence;
        int32_t bases, first_base;
        int32_t found;
    } machine;
    typedef struct { int32_t lane, step, since, is_active; } transition;

    int run_one(const machine *m, int64_t *r, int64_t now);
    int run_many(const machine *m, int64_t *r, int step, int steps, const int32_t *lengths,
                 const int64_t *const *at_ms, const int64_t *const *values, const uint8_t *const *present,
                 const int64_t *const *bases, transition *found, int room, int room_of_step, int *count);
    """
)
ffi.set_source(
    "datacenter.triggers._machine",
    SOURCE,
    extra_compile_args=["-O3"],
    optional=True,  # setuptools: treat a compilation failure as a warning
)
