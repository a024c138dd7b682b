# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Hardware abstraction: device contracts (`hal.disk`, `hal.clock`, …), implemented for Linux and emulated."""
