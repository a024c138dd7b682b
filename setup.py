"""Builds the compiled part of `hal.linux`, which pyproject.toml cannot describe."""

from setuptools import setup

setup(cffi_modules=["hal/linux/ioctl_build.py:ffi"])
