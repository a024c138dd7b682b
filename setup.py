"""Builds the extension modules, which pyproject.toml cannot describe."""

from setuptools import setup

setup(
    cffi_modules=[
        "hal/linux/ioctl_build.py:ffi",
        "datacenter/history/column_build.py:ffi",
        "datacenter/triggers/machine_build.py:ffi",
    ]
)
