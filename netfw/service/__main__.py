# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Entry point of `python -m netfw.service`."""

import sys

from netfw.service.main import main

sys.exit(main())
