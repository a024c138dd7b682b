# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The watch: changes by other programs to the table, and to what surrounds it."""
