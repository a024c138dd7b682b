"""What pyproject.toml cannot say: the compiled part of `hal.linux`."""

from setuptools import setup

setup(cffi_modules=["hal/linux/ioctl_build.py:ffi"])
