"""Build script of the extension module of `datacenter.history`: column.c, with cffi in API mode.

setup.py builds it at installation. It is optional: without a C compiler, numpy decodes the columns of chunks.
"""

from pathlib import Path

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    int64_t decode_column(const uint8_t *data, int64_t size, int bits, int64_t width, int64_t rest, int order,
                          int64_t divisor, const int64_t *first, int64_t *values);
""")
ffi.set_source(
    "datacenter.history._column",
    Path(__file__).with_name("column.c").read_text(),
    extra_compile_args=["-O3", "-fwrapv"],  # differences that are too large wrap, as with numpy
    optional=True,  # setuptools: treat a compilation failure as a warning
)
