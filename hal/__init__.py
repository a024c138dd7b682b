# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Hardware contracts (`hal.disk`, `hal.clock`, …), their two implementations, and the boards."""
